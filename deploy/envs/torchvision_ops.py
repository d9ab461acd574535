"""Lets torchvision be imported beside a torch for CPUs. The only torchvision for it in the package index is compiled
against CUDA, so its operators do not load, and its import fails where it describes them. Declared beforehand without a
body they can be described; whoever calls one is told that there is none. vLLM's processors of pictures call none.

Run by the Python of an environment, it installs itself there: a `.pth` file loads it at each start, and it does nothing
until torchvision is imported, and nothing at all where torch has CUDA.
"""

from __future__ import annotations

import importlib.util
import shutil
import sys
import sysconfig
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

PLAIN = (
    *("roi_align", "_roi_align_backward", "qroi_align", "roi_pool", "_roi_pool_backward", "ps_roi_align"),
    *("_ps_roi_align_backward", "ps_roi_pool", "_ps_roi_pool_backward", "deform_conv2d", "_deform_conv2d_backward"),
)
"""Operators of which any signature will do; that of `nms` and `qnms` is looked at."""

_kept: list[object] = []
"""What is declared is gone with the object that declared it."""


class _Before(MetaPathFinder):
    """Asked first when a module is imported; finds none, and declares the operators before torchvision is."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname == "torchvision":
            sys.meta_path.remove(self)
            declare()
        return None


def declare() -> None:
    """Declare torchvision's operators, where torch has no CUDA."""
    if importlib.util.find_spec("torch") is None:
        return
    import torch

    if torch.version.cuda is not None:
        return
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    for name in PLAIN:
        library.define(f"{name}(Tensor x) -> Tensor")
    _kept.append(library)


def install() -> None:
    """Copy this file into the environment that runs it, and have it loaded at each start."""
    place = Path(sysconfig.get_path("purelib"))
    shutil.copyfile(__file__, place / "torchvision_ops.py")
    (place / "torchvision_ops.pth").write_text("import torchvision_ops\n")


if __name__ == "__main__":
    install()
else:
    sys.meta_path.insert(0, _Before())
