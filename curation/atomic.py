"""One atomic replace: a local file that is written appears under its name whole, or not at all.

Beside its place under a hidden name first, renamed when it is whole. A reader, and whoever looks after a kill, finds
the old file or the new one. `curation.outputs` adds object stores and folders.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str], durable: bool = True) -> Iterator[IO[bytes]]:
    """A file whose content takes the place of `path` when the block ends well; otherwise `path` is as it was.

    A link keeps leading where it leads, an old file hands down its permissions. `durable`: on the disk before it is
    renamed, so that it outlives a loss of power as well. OSError as `open` and `os.replace` raise it.
    """
    target = Path(os.path.realpath(path))
    partial = target.with_name(f".{secrets.token_hex(8)}.partial")
    try:
        with open(partial, "xb") as file:
            if target.exists():
                os.fchmod(file.fileno(), stat.S_IMODE(target.stat().st_mode))
            yield file
            file.flush()
            if durable:
                os.fsync(file.fileno())
        os.replace(partial, target)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
