"""What holds for every test: Hypothesis times nothing, for a machine that others load is slow and not wrong; a Ctrl-C
is heard, for a runner that was started in the background has its tests, and all that they start, ignore it; and none
joins a Ray in the process of the tests, see `tests.support.apart`.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest
from hypothesis import settings

settings.register_profile("untimed", deadline=None, max_examples=40)  # as many as all tests together have time for
settings.load_profile("untimed")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def joined_rays() -> list[str]:
    """Grows with each Ray that this process joins. Empty for ever where Ray is not installed."""
    joined: list[str] = []
    try:
        from ray._private import worker
    except ImportError:
        return joined
    worker._post_init_hooks.append(lambda: joined.append("a Ray"))
    return joined


@pytest.fixture(autouse=True)
def no_ray_in_this_process(joined_rays: list[str]) -> Iterator[None]:
    yield
    joined = len(joined_rays)
    joined_rays.clear()
    assert not joined, "this test joined a Ray in the process of the tests; see tests.support.apart"
