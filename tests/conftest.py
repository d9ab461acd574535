"""What holds for every test: Hypothesis times nothing, for a machine that others load is slow and not wrong; and a
Ctrl-C is heard, for a runner that was started in the background has its tests, and all that they start, ignore it.
"""

from __future__ import annotations

import signal

from hypothesis import settings

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
