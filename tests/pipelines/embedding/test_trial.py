"""Whatever an embedder raises, before a run or in a search, is one line."""

from __future__ import annotations

import numpy as np
import pytest

from curation.embed.base import Made, WrongVector
from curation.errors import UserError
from curation.spaces import Space
from pipelines.embedding.trial import answered

SPACE = Space("own", 3, "a test")


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (WrongVector("own gave a vector of zeros"), "own gave a vector of zeros; mend it"),
        (RuntimeError("CUDA error:\n no device"), "does not work: RuntimeError: CUDA error: no device; mend it"),
        (UserError("it reads no text", "search with --like"), "it reads no text; search with --like"),
    ],
)
def test_what_it_raises_is_a_line(error: Exception, told: str) -> None:
    def fail() -> list[Made]:
        raise error

    with pytest.raises(UserError) as raised:
        answered(SPACE, fail, "mend it")
    assert told in str(raised.value) and "\n" not in str(raised.value)


def test_an_answer_passes() -> None:
    vector = np.ones(3, np.float32)
    assert answered(SPACE, lambda: [vector, "too dark"], "mend it") == [vector, "too dark"]
