"""A user's own embedder: a class like a filter's, found by its name, whose vectors fill a space of its own.

`[[embeddings]]` with `kind = "custom"` of a recipe says which, and how wide its vectors are. Its method
`measure(clips)` gives for each clip a vector, or a text that says why there is none (docs/search.md); with a method
`texts(texts)` it can be searched by words as well. It runs as the user who starts the job: unlike a video, it is
trusted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from curation.embed.base import Made, WrongVector, checked
from curation.errors import UserError
from curation.filters.custom import found
from curation.identity import fingerprint

_WHY = 200


def custom_by(name: str, version: int, filter_: str, width: int, options: Mapping[str, Any]) -> str:
    """How the vectors are made, as far as the recipe says: `version` is raised when the class has changed."""
    return fingerprint(name, version, {"filter": filter_, "width": width, "options": dict(options)})


class Custom:
    """`base.OfPictures` around an object that has `measure(clips)`, and `base.OfTexts` where it has `texts(texts)`.

    `filter_`: "package.module:Class", or the name of an entry point of `ziggurat.filters`; called with `options` as
    keywords. Raises `UserError` where it cannot be found, or not be made.
    """

    def __init__(self, name: str, filter_: str, width: int, version: int, options: Mapping[str, Any]) -> None:
        self.by = custom_by(name, version, filter_, width, options)
        self.width, self._name = width, name
        kind = found(name, filter_)
        try:
            self._made = kind(**options)
        except Exception as error:
            said = " ".join(str(error).split())[:200]
            cause = f"the embedder {name} ({filter_}) cannot be made: {type(error).__name__}: {said}"
            raise UserError(cause, "see its options") from error

    def pictures(self, clips: Sequence[Sequence[np.ndarray]]) -> list[Made]:
        """See `base.OfPictures`. Raises `WrongVector`."""
        return self._answers(self._made.measure(clips), len(clips))

    def texts(self, texts: Sequence[str]) -> list[Made]:
        """See `base.OfTexts`. UserError where the class reads none."""
        if not callable(getattr(self._made, "texts", None)):
            raise UserError(f"the embedder {self._name} reads no text", "search with --like or --image")
        return self._answers(self._made.texts(texts), len(texts))

    def _answers(self, answers: Any, many: int) -> list[Made]:
        given = list(answers)
        if len(given) != many:
            raise WrongVector(f"the embedder {self._name} gave {len(given)} answers for {many}")
        return [self._answer(one) for one in given]

    def _answer(self, answer: Any) -> Made:
        if answer is None or isinstance(answer, str):
            return f"{self._name}: {' '.join((answer or '').split())[:_WHY] or 'no vector'}"
        return checked(answer, self.width, f"the embedder {self._name}")
