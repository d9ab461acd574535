"""Where kernels are launched."""

from __future__ import annotations

from contextlib import contextmanager
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch._subclasses.fake_tensor import FakeTensorMode

from kernels import runtime


class Kernel:
    """Writes down its launches and the device that was current."""

    def __init__(self) -> None:
        self.current: Any = "cuda:0"
        self.launches = list[tuple[Any, tuple[int, ...], tuple[Any, ...], dict[str, Any]]]()

    def __getitem__(self, grid: tuple[int, ...]) -> Any:
        return lambda *arguments, **named: self.launches.append((self.current, grid, arguments, named))

    @contextmanager
    def device(self, device: Any):
        before, self.current = self.current, str(device)
        yield
        self.current = before


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    made = Kernel()
    monkeypatch.setattr(torch.cuda, "device", made.device)
    return made


def test_launches_on_the_device_of_the_tensors(kernel: Kernel) -> None:
    with FakeTensorMode():
        x = torch.empty(3, device="cuda:1")
    runtime.launch(kernel, (2,), 7, x, SIZE=4)
    runtime.launch(kernel, (2,), 7, x=x)
    assert [launch[0] for launch in kernel.launches] == ["cuda:1", "cuda:1"] and kernel.current == "cuda:0"
    assert kernel.launches[0][1:] == ((2,), (7, x), {"SIZE": 4})


def test_a_cpu_tensor_changes_no_device(kernel: Kernel) -> None:
    runtime.launch(kernel, (1,), torch.empty(3))
    assert [launch[0] for launch in kernel.launches] == ["cuda:0"]


def test_an_empty_grid_is_not_launched(kernel: Kernel) -> None:
    runtime.launch(kernel, (4, 0), torch.empty(0))
    assert not kernel.launches
