"""A function in a process of its own. Ray's core keeps of its first start in a process whether its calls carry tokens:
what joins one cluster with them and then another one without has its workers taken back before they run.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def apart(function: Callable[P, R], *arguments: P.args, **named: P.kwargs) -> R:
    """What `function`, of a module's top level, returns or raises there."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        return process.submit(function, *arguments, **named).result()
