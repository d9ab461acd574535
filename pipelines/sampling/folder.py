"""Where `sample` puts its videos: a folder, local or in an object store, with a list of how each was made.

`sampling` fills it. Each file is whole or not there, and the list grows by a line with each video, so that a run that
is ended keeps what it has made.
"""

from __future__ import annotations

import os

from curation import outputs
from curation.errors import UserError
from curation.inputs import uris
from curation.pyramid.storage.files import is_remote
from pipelines.sampling.samples_file import NAME


class SampleFolder:
    """The folder `to`, made where it is missing. Lines go on the end of a local list; a remote folder must be new.

    UserError where nothing can be written there.
    """

    def __init__(self, to: str) -> None:
        self._place = outputs.check(to)
        self._lines: list[str] = []
        if is_remote(self._place):
            if outputs.exists(self.place(NAME)):
                raise UserError(f"{to} holds samples already", "choose a new folder")
            return
        try:
            os.makedirs(self._place, exist_ok=True)
        except OSError as error:
            raise UserError(f"{to} is no folder that can be made ({error.strerror})", "give another folder") from None

    def __str__(self) -> str:
        return self._place

    def place(self, name: str) -> str:
        """The path or URI of a file in it."""
        return uris.child(self._place, name) if is_remote(self._place) else os.path.join(self._place, name)

    def keep(self, name: str, content: bytes) -> str:
        """Write a file, in place of one of this name; its path or URI."""
        place = self.place(name)
        outputs.write(place, content)
        return place

    def list(self, line: str) -> None:
        """Add a line to the list."""
        if not is_remote(self._place):
            with open(self.place(NAME), "a") as file:
                file.write(line + "\n")
            return
        self._lines.append(line + "\n")  # an object cannot be added to
        outputs.write(self.place(NAME), "".join(self._lines).encode())
