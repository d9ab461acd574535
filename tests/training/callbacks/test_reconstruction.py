"""Validation of an autoencoder: the metrics of the averaged weights on fixed clips, and it changes nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from tests.support.toy_autoencoder import CLIP, WIDE, ToyAutoencoder, tiny_lpips
from tests.support.toy_run import Kept
from training.callbacks.log import Log
from training.callbacks.reconstruction import Reconstruction
from training.quality.reconstruction import reconstruction


def test_the_numbers_are_the_means_over_clips(tmp_path: Path) -> None:
    run, averages, _ = ToyAutoencoder(tmp_path, buckets={CLIP: 2, WIDE: 2}).parts()
    for value in averages.values.values():
        value += 0.01
    held, lpips = [0, 3], tiny_lpips()
    before = {name: weight.clone() for name, weight in run.engine.masters().items()}
    validation = Reconstruction(run.engine, run.method, held, 1, averages, lpips)  # type: ignore[arg-type]
    found = validation.measured()
    assert all(torch.equal(weight, before[name]) for name, weight in run.engine.masters().items())

    wanted, latents = [], []
    with averages.swapped(), torch.no_grad():
        for sample in held:
            inputs = run.method.validation([sample])  # type: ignore[attr-defined]
            again = run.method.rebuilt(run.engine.model, inputs, torch.float32)  # type: ignore[attr-defined]
            a, b = (((x[0] + 1) / 2).clamp(0, 1).transpose(0, 1) for x in (inputs.video, again))
            wanted.append(reconstruction(a, b, lpips))
            latents.append(run.method.networks.rebuilder.autoencoder.encoder(inputs.video).flatten())  # type: ignore[attr-defined]
    for name in ("psnr", "ssim", "lpips"):
        assert found[f"validation/{name}"] == pytest.approx(sum(getattr(one, name) for one in wanted) / 2, rel=1e-5)
    std = torch.cat(latents).double().std(correction=0).item()
    assert found["validation/latent_std"] == pytest.approx(std, rel=1e-5)
    assert validation.measured() == found


def test_it_is_logged_from_the_start_on_and_without_lpips(tmp_path: Path) -> None:
    toy, kept = ToyAutoencoder(tmp_path), Kept()
    parts = toy.parts()
    toy.parts = lambda: parts  # type: ignore[method-assign]
    validation = Reconstruction(parts[0].engine, parts[0].method, [1], every=2)  # type: ignore[arg-type]
    log = Log(tmp_path / "log", validation=validation)
    toy.go(3, validation, kept, log, saves=False)
    assert ["validation/psnr" in report.values for report in kept.reports] == [False, True, False]
    assert "validation/lpips" not in validation.last
    lines = [json.loads(line) for line in (tmp_path / "log" / "log.jsonl").read_text().splitlines()]
    (begin, end) = (next(line for line in lines if line["kind"] == kind) for kind in ("begin", "end"))
    assert begin["validation/psnr"] != end["validation/psnr"] == validation.last["validation/psnr"]
    assert end["validation/psnr"] != kept.reports[1].values["validation/psnr"]


def test_what_is_not_finite_is_told_as_such(tmp_path: Path) -> None:
    run, _, _ = ToyAutoencoder(tmp_path).parts()

    def spoil(name: str, weight: Any) -> None:
        weight.fill_(float("nan"))

    run.engine.put(spoil)
    found = Reconstruction(run.engine, run.method, [1], every=1).measured()  # type: ignore[arg-type]
    assert all(value != value for value in found.values()) and len(found) == 3
