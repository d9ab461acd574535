"""What is read of latents is what was written, to the bit; what is of another manifest or encoder is refused."""

from __future__ import annotations

import pickle
import shutil
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import lance
import numpy as np
import pyarrow as pa
import pytest

pytest.importorskip("torch")

import torch

from curation.errors import UserError
from curation.shards.manifest import Manifest
from training.data import tensors
from training.data.encoded import Encoded
from training.data.latent_file import DATASET, HEAD, ROWS, Encoders, Head, row
from training.data.latents import LatentStore
from training.models.base import LatentSpec

MANIFEST = Manifest(
    name="n",
    pyramid="/p",
    versions={},
    pin="manifest-n",
    tier=None,
    query=(),
    preset="mine",
    table="",
    seed=42,
    samples=9,
    buckets={},
    missed={},
    made="2026-11-29T00:00:00+00:00",
    made_by="test",
    sha256="ab" * 32,
)
EMPTY = torch.randn(1, 5, 3).bfloat16()
HEAD_OF_IT = Head(
    "n",
    MANIFEST.sha256,
    "/p",
    "tiny",
    Encoders(
        "auto" * 16,
        "text" * 16,
        LatentSpec(4, 4, 8, causal=True, patch=2),
        "float32",
        "bfloat16",
        (5, 3),
        (2,),
        tensors.to_bytes(EMPTY),
        tensors.to_bytes(torch.zeros(2).bfloat16()),
    ),
)


def encoded(number: int) -> Encoded:
    made = torch.Generator().manual_seed(number)
    image = number % 3 == 0
    latent = torch.randn(4, 1 if image else number, 2, 2 + number % 2, generator=made)
    ends = (None, None) if image else (latent[:, :1] + 1, latent[:, -1:] * 2)
    return Encoded(
        number, latent, *ends, torch.randn(5, 3, generator=made).bfloat16(), torch.ones(2).bfloat16() * number
    )


def sample(number: int) -> dict[str, Any]:
    return {
        "clip_id": f"c{number}",
        "kind": "image" if number % 3 == 0 else "video",
        "resolution": "128px",
        "bucket_frames": 1,
        "bucket_height": 16,
        "bucket_width": 16,
        "bucket_fps": None,
    }


def written(folder: Path, numbers: list[int], head: Head = HEAD_OF_IT, by: str | None = None) -> str:
    """In two files of rows, in this order."""
    (folder / HEAD).write_bytes(head.to_json())
    rows = [row(sample(number), encoded(number), "a prompt", by or head.by) for number in numbers]
    for some in (rows[:2], rows[2:]):
        lance.write_dataset(pa.Table.from_pylist(some, schema=ROWS), str(folder / DATASET), mode="append")
    return str(folder)


def same(one: Any, two: Any) -> bool:
    if one is None or two is None:
        return one is two
    return one.dtype == two.dtype and one.shape == two.shape and torch.equal(one, two)


def assert_same(found: Encoded, expected: Encoded) -> None:
    assert found.sample == expected.sample
    for name in ("latent_CTHW", "head_C1HW", "tail_C1HW", "tokens_MD", "pooled_P"):
        assert same(getattr(found, name), getattr(expected, name)), name


@pytest.mark.parametrize("dtype", tensors.DTYPES)
def test_a_tensor_comes_back_to_the_bit(dtype: str) -> None:
    made = torch.randn(3, 5, 2).to(getattr(torch, dtype))
    odd = torch.tensor([float("nan"), float("inf"), -0.0, 1e-38]).to(made.dtype)
    for tensor in (made, made.transpose(0, 2), made[:, 1:2], odd):
        content = tensors.to_bytes(tensor)
        found = tensors.from_bytes(content, tensor.shape, tensors.name_of(tensor.dtype))
        assert (
            torch.equal(found.view(torch.int16), tensor.contiguous().view(torch.int16)) and found.shape == tensor.shape
        )
    assert tensors.to_bytes(torch.tensor([1.0])) == np.array([1.0], "<f4").tobytes()


def test_bytes_that_do_not_fit_are_told() -> None:
    with pytest.raises(UserError, match="7 bytes where a float32 tensor of 2x1"):
        tensors.from_bytes(b"1234567", (2, 1), "float32")


def test_samples_come_in_the_order_asked_for(tmp_path: Path) -> None:
    store = LatentStore.open(written(tmp_path, [5, 0, 3, 8, 1]), MANIFEST)
    wanted = [8, 0, 8, 1, 5, 3]
    for found, number in zip(store.read(wanted), wanted, strict=True):
        assert_same(found, encoded(number))
    assert store.read([]) == [] and store.missing.tolist() == [2, 4, 6, 7]
    assert store.spec == HEAD_OF_IT.encoders.spec
    assert same(store.empty.tokens_BMD, EMPTY) and store.empty.pooled_BP.shape == (1, 2)


def test_the_head_comes_back(tmp_path: Path) -> None:
    assert Head.from_json(HEAD_OF_IT.to_json(), "x") == HEAD_OF_IT
    others = [replace(HEAD_OF_IT, manifest_sha256="0")]
    for changed in ({"autoencoder": "x"}, {"text": "x"}, {"text_type": "float32"}):
        others.append(replace(HEAD_OF_IT, encoders=replace(HEAD_OF_IT.encoders, **changed)))
    assert len({head.by for head in (HEAD_OF_IT, *others)}) == 5
    assert replace(HEAD_OF_IT, pyramid="/moved", model="renamed").by == HEAD_OF_IT.by


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"format": 1}', b"\xff", b'{"format": 1, "encoders": {}}'])
def test_no_head_is_one_line(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(UserError, match="says nothing of latents"):
        Head.from_json(content, "latents.json")


def test_a_newer_head_is_refused() -> None:
    with pytest.raises(UserError, match="newer Ziggurat"):
        Head.from_json(replace(HEAD_OF_IT, format=99).to_json(), "latents.json")


def test_rows_written_twice_count_once(tmp_path: Path) -> None:
    store = LatentStore.open(written(tmp_path, [1, 2, 1, 2]), MANIFEST)
    for found, number in zip(store.read([2, 1]), (2, 1), strict=True):
        assert_same(found, encoded(number))


def test_what_is_missing_is_told(tmp_path: Path) -> None:
    store = LatentStore.open(written(tmp_path, [0, 1, 2]), MANIFEST)
    with pytest.raises(UserError, match=r"2 samples have no latents at .*, 4 for one"):
        store.read([0, 4, 5])


def test_a_reader_keeps_what_it_has_opened(tmp_path: Path) -> None:
    store = LatentStore.open(written(tmp_path, [0, 1, 2]), MANIFEST)
    lance.dataset(str(tmp_path / DATASET)).optimize.compact_files()
    assert_same(store.read([2])[0], encoded(2))
    assert_same(LatentStore.open(str(tmp_path), MANIFEST).read([2])[0], encoded(2))


def only_the_latest(place: Path) -> None:
    """As `encode` leaves a place that it has merged, or removed from, a while ago."""
    dataset = lance.dataset(str(place / DATASET))
    dataset.optimize.compact_files()
    dataset.cleanup_old_versions(older_than=timedelta(microseconds=1), delete_unverified=True)


@pytest.mark.parametrize("sent", [False, True])
def test_a_reader_goes_on_with_the_latest_version_where_its_own_is_gone(tmp_path: Path, sent: bool) -> None:
    """It reads what it has opened as long as that is there; also where a process has got it from another."""
    store = LatentStore.open(written(tmp_path, [3, 0, 1]), MANIFEST)
    lance.write_dataset(
        lance.dataset(str(tmp_path / DATASET)).to_table().slice(0, 1), tmp_path / DATASET, mode="append"
    )
    only_the_latest(tmp_path)
    store = pickle.loads(pickle.dumps(store)) if sent else store
    for _ in range(2):
        for found, number in zip(store.read([1, 3]), (1, 3), strict=True):
            assert_same(found, encoded(number))
    assert store.missing.tolist() == [2, 4, 5, 6, 7, 8]


def test_a_sample_that_is_taken_down_while_training_reads_is_told(tmp_path: Path) -> None:
    store = LatentStore.open(written(tmp_path, [3, 0, 1]), MANIFEST)
    lance.dataset(str(tmp_path / DATASET)).delete("sample = 0")
    only_the_latest(tmp_path)
    with pytest.raises(UserError, match=r"sample 0 has no latents at .* any more") as error:
        store.read([3, 0])
    assert "without it" in error.value.remedy
    assert_same(store.read([3])[0], encoded(3))
    with pytest.raises(UserError, match="5 for one"):
        store.read([5])


def test_a_place_that_is_gone_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: None)
    store = LatentStore.open(written(tmp_path, [3, 0, 1]), MANIFEST)
    shutil.rmtree(tmp_path / DATASET / "data")
    with pytest.raises(UserError, match="cannot read"):
        store.read([3])


def test_nothing_or_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no latents"):
        LatentStore.open(str(tmp_path), MANIFEST)
    written(tmp_path, [0, 1, 2])
    with pytest.raises(UserError, match="latents of the manifest n, as frozen ababababab"):
        LatentStore.open(str(tmp_path), replace(MANIFEST, name="m", sha256="0" * 64))
    store = LatentStore.open(str(tmp_path), MANIFEST)
    made = HEAD_OF_IT.encoders
    store.check(made.autoencoder, made.text)
    with pytest.raises(UserError, match="of another autoencoder"):
        store.check("x", made.text)
    with pytest.raises(UserError, match="of another text encoder"):
        store.check(made.autoencoder, "x")


def test_rows_of_another_maker_or_number_are_refused(tmp_path: Path) -> None:
    for name, numbers, by in (("by", [0, 1], "latents-1-0"), ("number", [0, 9], None)):
        (tmp_path / name).mkdir()
        with pytest.raises(UserError, match=r"another encoder or manifest|does not have"):
            LatentStore.open(written(tmp_path / name, numbers, by=by), MANIFEST)


def test_a_head_without_rows_is_one_line(tmp_path: Path) -> None:
    (tmp_path / HEAD).write_bytes(HEAD_OF_IT.to_json())
    with pytest.raises(UserError, match="cannot be read"):
        LatentStore.open(str(tmp_path), MANIFEST)
