"""ColossalAI 0.5.0, the last release, brought to run beside a current torch, and on CPUs.

It pins a torch of 2024, so it is installed without its dependencies. Two of those, `bitsandbytes` and `galore_torch`,
are only for optimizers that we do not use, but are imported at once: empty modules stand for them while it is imported.
On CPUs it lacks what it asks of a device (streams, events, a number); there all of that is nothing, and its check for a
GPU is left out.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import torch

from curation.errors import UserError

# `constraints.txt` has the same version.
PIP = "pip install --no-deps colossalai==0.5.0 && pip install einops peft"

# For the whole process: its calls are many, and torch has new names for two of them.
warnings.filterwarnings("ignore", message=r"`torch\.distributed\.\w+_tensor` is deprecated", category=FutureWarning)

_STAND_INS = {
    "bitsandbytes": (),
    "bitsandbytes.optim": (),
    "bitsandbytes.optim.optimizer": ("Optimizer2State",),
    "galore_torch": ("GaLoreAdafactor", "GaLoreAdamW"),
}


@dataclass(frozen=True, slots=True)
class Colossal:
    """What is used of it."""

    booster: Any
    zero_plugin: Any


def load(device: torch.device) -> Colossal:
    """Import it, and set it to that kind of device. UserError: it is not installed."""
    try:
        with _stand_ins(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of packages that would be faster than what is not used either
            booster = importlib.import_module("colossalai.booster")
            plugins = importlib.import_module("colossalai.booster.plugin")
            accelerator = importlib.import_module("colossalai.accelerator")
    except ImportError as error:
        raise _lacking(str(error)) from error
    if device.type == "cpu":
        _use_cpu(accelerator)
    return Colossal(booster.Booster, plugins.LowLevelZeroPlugin)


def check_installed() -> None:
    """UserError: it is not there. Imports nothing, so it can be asked before anything is started."""
    if find_spec("colossalai") is None:
        raise _lacking("No module named 'colossalai'")


def _lacking(what: str) -> UserError:
    return UserError(f"engine colossal lacks a package: {what}", f"{PIP}, or take engine fsdp2")


@contextmanager
def _stand_ins() -> Iterator[None]:
    """Modules that are not installed, for the time of an import; others that ask afterwards find none."""
    missing = [name for name in _STAND_INS if find_spec(name.split(".")[0]) is None]
    for name in missing:
        module = ModuleType(name)
        module.__spec__, module.__path__ = ModuleSpec(name, None, is_package=True), []
        for attribute in _STAND_INS[name]:
            setattr(module, attribute, type(attribute, (), {}))
        sys.modules[name] = module
    try:
        yield
    finally:
        for name in missing:
            del sys.modules[name]


def _use_cpu(accelerator: ModuleType) -> None:
    zero = importlib.import_module("colossalai.zero.low_level.low_level_optim")
    zero.LowLevelZeroOptimizer._sanity_checks = lambda self: None
    if not isinstance(accelerator.get_accelerator(), _of_cpus(accelerator)):
        accelerator.set_accelerator(_of_cpus(accelerator)())


_CPUS: dict[ModuleType, Any] = {}


def _of_cpus(accelerator: ModuleType) -> Any:
    """Its description of CPUs as a device, with all that ZeRO asks of one."""
    if accelerator not in _CPUS:
        _CPUS[accelerator] = type("Cpus", (_Cpus, accelerator.CpuAccelerator), {})
    return _CPUS[accelerator]


class _Nothing:
    """A stream or an event where everything happens in order: whatever is asked of it is done already."""

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **kwargs: None


class _Cpus:
    support_set_device = False

    def Stream(self, *args: Any, **kwargs: Any) -> Any:  # noqa: N802 - the name that is called
        return _Nothing()

    def Event(self, *args: Any, **kwargs: Any) -> Any:  # noqa: N802
        return _Nothing()

    def current_stream(self, *args: Any) -> Any:
        return _Nothing()

    def default_stream(self, *args: Any) -> Any:
        return _Nothing()

    def stream(self, stream: Any) -> AbstractContextManager[None]:
        return nullcontext()

    def set_stream(self, stream: Any) -> None: ...

    def synchronize(self, *args: Any) -> None: ...

    def empty_cache(self) -> None: ...

    def device_count(self) -> int:
        return 1

    def current_device(self) -> int:
        return 0
