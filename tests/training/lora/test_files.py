"""An adapter on the disk: to the bit what it was, read by peft as well, and refused where it is not a plain one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")

from curation.errors import UserError
from tests.support.adapters import config_of, output, trained
from tests.support.mmdit import lively
from training.lora import files
from training.lora.adapter import Adapter
from training.lora.inject import adapter_of
from training.lora.spec import LoraSpec
from training.models.weights import Files, InMemory, write

SPEC = LoraSpec(rank=3, alpha=4.5, dropout=0.1, targets=("mod", "attn"))


def same(one: Adapter, two: Adapter) -> bool:
    assert one.layers.keys() == two.layers.keys()
    return all(
        torch.equal(a, b) for name in one.layers for a, b in zip(one.layers[name], two.layers[name], strict=True)
    )


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    adapter = adapter_of(trained(lively(config_of(True)), SPEC))
    written = files.save(adapter, tmp_path / "new" / "adapter")
    assert sorted(path.name for path in written) == sorted(p.name for p in (tmp_path / "new" / "adapter").iterdir())
    found = files.load(tmp_path / "new" / "adapter")
    assert same(found, adapter)
    assert (found.rank, found.alpha, found.dropout, found.base) == (3, 4.5, 0.1, adapter.base) and adapter.base
    with pytest.raises(UserError, match="holds an adapter already"):
        files.save(adapter, tmp_path / "new" / "adapter")


@pytest.mark.parametrize("stacked", [False, True])
def test_peft_reads_it(stacked: bool, tmp_path: Path) -> None:
    model = trained(lively(config_of(stacked)), SPEC).eval()
    files.save(adapter_of(model), tmp_path)
    theirs = peft.PeftModel.from_pretrained(lively(config_of(stacked)), str(tmp_path)).eval()
    torch.testing.assert_close(output(theirs.base_model.model), output(model), rtol=1e-5, atol=1e-5)
    config = peft.LoraConfig.from_pretrained(str(tmp_path))
    assert (config.r, config.lora_alpha, config.lora_dropout) == (3, 4.5, 0.1)


def test_what_peft_writes_is_read(tmp_path: Path) -> None:
    wrapped = peft.get_peft_model(
        lively(config_of(False)), peft.LoraConfig(r=2, lora_alpha=6, target_modules=["img_mlp.2", "linear2"])
    )
    wrapped.save_pretrained(str(tmp_path))
    found = files.load(tmp_path)
    assert (found.rank, found.alpha, found.base) == (2, 6.0, "")
    assert sorted(found.layers) == sorted(
        f"{kind}_blocks.{n}.{layer}" for kind, layer in (("double", "img_mlp.2"), ("single", "linear2")) for n in (0, 1)
    )


def config(folder: Path, **change: Any) -> None:
    path = folder / files.CONFIG
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))


def rewritten(folder: Path, **change: Any) -> None:
    """The weights with a tensor more, or another in its place."""
    held = Files(folder / files.WEIGHTS)
    tensors = {name: held.read(name).clone() for name in held.names()} | change
    (folder / files.WEIGHTS).unlink()
    write(InMemory(tensors), folder / files.WEIGHTS)


def as_pickle(folder: Path) -> None:
    (folder / files.WEIGHTS).rename(folder / "adapter_model.bin")


FIRST = f"{files.PREFIX}double_blocks.0.img_mod.lin.lora_A.weight"


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda folder: (folder / files.CONFIG).unlink(), "holds no adapter"),
        (lambda folder: (folder / files.CONFIG).write_text("{"), "holds no adapter"),
        (lambda folder: config(folder, r="many"), r"has r or lora_alpha = null|has r"),
        (lambda folder: config(folder, use_dora=True), "has use_dora = true; only plain LoRA"),
        (lambda folder: config(folder, alpha_pattern={"lin": 3}), "has alpha_pattern"),
        (lambda folder: config(folder, r=5), r"no whole adapter, not a pair of rank 5: double_blocks.0.img_"),
        (as_pickle, "as a pickle, which may run code; save it as safetensors"),
        (lambda folder: (folder / files.WEIGHTS).unlink(), "there is no checkpoint at"),
        (lambda folder: rewritten(folder, extra=torch.ones(2)), "holds extra, which is no part of an adapter"),
        (lambda folder: rewritten(folder, **{FIRST: torch.ones(2, 9)}), "not a pair of rank 3"),
    ],
)
def test_what_is_no_plain_adapter_is_refused(spoil: Any, says: str, tmp_path: Path) -> None:
    files.save(adapter_of(trained(lively(config_of(False)), replace(SPEC, targets=("mod",)))), tmp_path)
    spoil(tmp_path)
    with pytest.raises(UserError, match=says) as error:
        files.load(tmp_path)
    assert "\n" not in str(error.value)
