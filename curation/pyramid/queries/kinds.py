"""What kind of clip a row is of, and which ranges say nothing of it. Tiers, conditions and the drop ledger ask here.

A row without a kind, as those from before there were images, is of a video. An image has no motion, no jitter, no rate
and no length (`contract.NOT_OF_IMAGES`): a range over one of these does not drop it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from curation.contract import NOT_OF_IMAGES, Kind

COLUMN = "kind"


def kind_of(row: Mapping[str, Any]) -> str:
    """The kind of a row of `clips`: one of `Kind`."""
    return row.get(COLUMN) or str(Kind.VIDEO)


def spared(column: str, row: Mapping[str, Any]) -> bool:
    """Whether a range over `column` says nothing of a row, which is then inside."""
    return column in NOT_OF_IMAGES and kind_of(row) == Kind.IMAGE


def told(kinds: pa.Array) -> pa.Array:
    """The stored column as it is shown: a null is a video."""
    return kinds.fill_null(str(Kind.VIDEO))
