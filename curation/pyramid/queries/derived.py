"""Columns of a clip that are not stored, for they follow from two that are: its length, and what its size amounts to.

Conditions, tiers, queries, the drop ledger and the sheet read this table: a new column is one row of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


@dataclass(frozen=True, slots=True)
class Derived:
    """A column that follows from two stored ones. `numbers` takes Python numbers as well as NumPy arrays, `expression`
    is the same for Arrow, `sql` for a projection of Lance.
    """

    parts: tuple[str, str]
    type: pa.DataType
    numbers: Callable[[Any, Any], Any]
    expression: pc.Expression
    sql: str

    def value(self, row: Mapping[str, Any]) -> Any:
        """The value in a row, None where a part is missing."""
        a, b = (row.get(part) for part in self.parts)
        return None if a is None or b is None else self.numbers(a, b)


def _least(a: Any, b: Any) -> Any:
    return np.minimum(a, b) if isinstance(a, np.ndarray) else min(a, b)


def _most(a: Any, b: Any) -> Any:
    return np.maximum(a, b) if isinstance(a, np.ndarray) else max(a, b)


def _product(a: Any, b: Any) -> Any:
    """Sizes are 32 bits wide, their product is not."""
    return a.astype(np.int64) * b if isinstance(a, np.ndarray) and a.dtype == np.int32 else a * b


def _if_else(test: Any, yes: Any, no: Any) -> pc.Expression:
    return pc.if_else(test, yes, no)  # pyright: ignore[reportAttributeAccessIssue] - its stubs lack it


_SIZE = ("width", "height")
_WIDTH, _HEIGHT = map(pc.field, _SIZE)
_LONG = [side.cast(pa.int64(), safe=False) for side in (_WIDTH, _HEIGHT)]
_NULL = " + (width - width) + (height - height)"
"""Null where a side is: `least` and `greatest` pass nulls over."""

DERIVED: Mapping[str, Derived] = MappingProxyType(
    {
        "duration_s": Derived(
            ("frames", "fps"),
            pa.float64(),
            lambda frames, fps: frames / fps,
            pc.field("frames").cast(pa.float64(), safe=False) / pc.field("fps"),
            "cast(frames as double) / fps",
        ),
        "pixels": Derived(_SIZE, pa.int64(), _product, _LONG[0] * _LONG[1], "cast(width as bigint) * height"),
        "short_side": Derived(
            _SIZE, pa.int32(), _least, _if_else(_WIDTH < _HEIGHT, _WIDTH, _HEIGHT), f"least(width, height){_NULL}"
        ),
        "long_side": Derived(
            _SIZE, pa.int32(), _most, _if_else(_WIDTH < _HEIGHT, _HEIGHT, _WIDTH), f"greatest(width, height){_NULL}"
        ),
    }
)
"""Of the clip as it is cut. `duration_s`: seconds; it may be a little slower than its source. `pixels`, `short_side`,
`long_side`: upright.
"""

DURATION = "duration_s"


def stored(columns: Iterable[str]) -> list[str]:
    """The stored columns that some columns are read from, each once, in order."""
    named = (part for name in columns for part in (DERIVED[name].parts if name in DERIVED else (name,)))
    return list(dict.fromkeys(named))


def value(row: Mapping[str, Any], column: str) -> Any:
    """A column of a row of stored columns, derived or not; None where it is missing."""
    return DERIVED[column].value(row) if column in DERIVED and column not in row else row.get(column)
