"""`ziggurat migrate`: a pyramid of an older format brought to this one."""

from __future__ import annotations

from curation.pyramid.lifecycle import migrate as migration
from curation.pyramid.lifecycle.migrate import Migrated
from curation.pyramid.tiering.retier import opened


def migrate(pyramid: str) -> Migrated:
    """Bring a pyramid to this version's format, and its column `tier` in line where a kill had cut that short."""
    done = migration.migrate(pyramid)
    opened(pyramid)
    return done
