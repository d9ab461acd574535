"""Is this machine sound? Its memory and a product of matrices against answers that are known; and two machines
together: a sum over both.

Run where a step gave other numbers than elsewhere (`recovery.guard`), before the run goes on, on every node.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor
from torch._C._distributed_c10d import TCPStore

MEMORY_BYTES = 256 << 20
_SIZE = 512
_SUM, _CORNERS = 4_378, (61, 1, -4, 11)
"""Of the product below, whose entries are whole numbers that every type of float here holds exactly."""


def faults(device: torch.device, memory: int = MEMORY_BYTES) -> list[str]:
    """What is wrong with a device of this machine, a line each: nothing where it is sound."""
    checks: tuple[tuple[str, Callable[[], bool]], ...] = (
        ("memory does not hold what is written", lambda: _memory(device, memory)),
        ("a product of matrices is wrong", lambda: _product(device)),
    )
    found: list[str] = []
    for what, check in checks:
        try:
            if not check():
                found.append(f"{what} ({device})")
        except RuntimeError as error:
            found.append(f"{what} ({device}: {str(error).splitlines()[0]})")
    return found


def operands(size: int = _SIZE) -> tuple[Tensor, Tensor]:
    """Two matrices of small whole numbers that follow no simple pattern, float64."""
    index = torch.arange(size * size, dtype=torch.int64).reshape(size, size)
    first = (index * 1_103_515_245 + 12_345) % 2**31 // 65_536 % 7 - 3
    second = (index * 22_695_477 + 1) % 2**31 // 65_536 % 7 - 3
    return first.double(), second.double()


def marks(product: Tensor) -> tuple[int, tuple[int, int, int, int]]:
    """What is known of the right answer: a weighted sum of all entries, and the corners."""
    exact = product.double().cpu()
    weights = torch.arange(1, exact.numel() + 1, dtype=torch.float64).reshape(exact.shape) % 11
    corners = (exact[0, 0], exact[0, -1], exact[-1, 0], exact[-1, -1])
    return int((exact * weights).sum()), tuple(int(one) for one in corners)  # type: ignore[return-value]


def _product(device: torch.device) -> bool:
    first, second = (one.float().to(device) for one in operands())
    return marks(first @ second) == (_SUM, _CORNERS)


def _memory(device: torch.device, size: int) -> bool:
    """Two patterns and their opposites, written and read again."""
    cells = torch.empty(size, dtype=torch.uint8, device=device)
    for pattern in (0x55, 0xAA, 0x00, 0xFF):
        cells.fill_(pattern)
        if not bool((cells == pattern).all()):
            return False
    return True


def meets(rank: int, address: str, port: int, device: torch.device, timeout_s: float) -> bool:
    """Whether a sum over this machine and another one is right; both call it, `rank` 0 at `address`."""
    store = TCPStore(address, port, 2, rank == 0, timeout=timedelta(seconds=timeout_s))
    options = {"store": store, "rank": rank, "world_size": 2, "timeout": timedelta(seconds=timeout_s)}
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", **options)  # type: ignore[arg-type]
    try:
        values = torch.arange(1 << 16, dtype=torch.float32, device=device) * (rank + 1)
        dist.all_reduce(values)
        return bool((values == 3 * torch.arange(1 << 16, dtype=torch.float32, device=device)).all())
    finally:
        dist.destroy_process_group()
