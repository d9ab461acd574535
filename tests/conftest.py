"""What holds for every test: Hypothesis times nothing, for a machine that others load is slow and not wrong."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
