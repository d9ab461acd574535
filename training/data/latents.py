"""Latents as training reads them: any samples of a manifest, by number, from what `ziggurat encode` has written.

`LatentStore` is a `Source` (`encoded`): rows are taken by Lance's row ids at the version that was the latest when it
was opened, found through one map from a sample's number. It writes nothing. Where an `encode` beside it has merged that
version's files away, it goes on with the latest one: a sample's rows are equal in all of them.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from curation.errors import UserError
from curation.retry import retrying
from curation.shards.manifest import Manifest
from training.data.encoded import Encoded
from training.data.latent_file import DATASET, HEAD, READ, Head, encoded_of
from training.models.base import LatentSpec

if TYPE_CHECKING:
    import lance


class LatentStore:
    """See the module. `rows`: the row id in `dataset` of each sample by number, -1 where there is none."""

    def __init__(self, uri: str, head: Head, rows: np.ndarray, dataset: lance.LanceDataset) -> None:
        self.uri, self.head = uri, head
        self.empty = head.encoders.empty
        self._missing = np.flatnonzero(rows < 0)
        self._at = rows, dataset

    @classmethod
    def open(cls, uri: str, manifest: Manifest, storage_options: Mapping[str, str] | None = None) -> Self:
        """The latents of a manifest at `uri`. UserError: there are none, or they are of another one; what is missing of
        them is not.
        """
        import lance

        content = _file(uri, storage_options)
        if content is None:
            raise UserError(f"{uri} holds no latents", "encode them there: `ziggurat encode MANIFEST --to URI`")
        head = Head.from_json(content, f"{uri}/{HEAD}")
        if head.manifest_sha256 != manifest.sha256:
            cause = f"{uri} holds latents of the manifest {head.manifest}, as frozen {head.manifest_sha256[:12]}"
            raise UserError(cause, f"encode {manifest.name} ({manifest.sha256[:12]}) to another place")
        options = dict(storage_options) if storage_options else None
        try:
            dataset = lance.dataset(f"{uri}/{DATASET}", storage_options=options)
        except (ValueError, OSError) as error:
            raise UserError(f"{uri}/{DATASET} cannot be read ({str(error)[:120]})", "encode again") from error
        return cls(uri, head, _rows(dataset, head.by, manifest.samples, uri), dataset)

    @property
    def spec(self) -> LatentSpec:
        return self.head.encoders.spec

    @property
    def missing(self) -> np.ndarray:
        """The samples of the manifest that had no latents here when it was opened."""
        return self._missing

    def check(self, autoencoder: str, text: str | None = None) -> None:
        """UserError where the latents were made by other encoders than those with these fingerprints; `text` None:
        whatever the text encoder was."""
        made = self.head.encoders
        for what, there, wanted in (("autoencoder", made.autoencoder, autoencoder), ("text encoder", made.text, text)):
            if wanted is not None and there != wanted:
                cause = f"the latents at {self.uri} are of another {what} ({there[:12]}, the model's is {wanted[:12]})"
                raise UserError(cause, "encode with this model to another place, or train with the model of these")

    def read(self, samples: Sequence[int]) -> list[Encoded]:
        if not len(samples):
            return []
        numbers = [int(number) for number in samples]
        try:
            return self._read(numbers)
        except UserError:
            raise
        except (OSError, RuntimeError, ValueError):
            self._follow()
        return retrying(f"cannot read {self.uri}", lambda: self._read(numbers))

    def _read(self, samples: Sequence[int]) -> list[Encoded]:
        rows, dataset = self._at
        wanted = rows[samples]
        if lacking := [number for number, row in zip(samples, wanted, strict=True) if row < 0]:
            raise self._lacks(lacking)
        unique, places = np.unique(wanted, return_inverse=True)
        taken = dataset._take_rows(unique.tolist(), list(READ)).to_pylist()
        found = {row["sample"]: row for row in taken}
        assert len(taken) == len(unique) and all(number in found for number in samples), places
        return [encoded_of(found[number], self.head.encoders) for number in samples]

    def _lacks(self, lacking: Sequence[int]) -> UserError:
        first = lacking[0]
        if first in self._missing:
            told = f"{len(lacking)} samples have no latents at {self.uri}, {first} for one"
            return UserError(told, "run the same `ziggurat encode` again, it does what is missing")
        told = f"sample {first} has no latents at {self.uri} any more: it was taken down since the run began"
        return UserError(told, "the same command goes on without it")

    def _follow(self) -> None:
        """Read from the latest version from now on."""
        rows, dataset = self._at
        newest = retrying(f"cannot read {self.uri}", lambda: _newest(dataset))
        if newest.version != dataset.version:
            found = retrying(f"cannot read {self.uri}", lambda: _rows(newest, self.head.by, len(rows), self.uri))
            self._at = found, newest

    def __reduce__(self) -> tuple[type[LatentStore], tuple[Any, ...]]:
        return LatentStore, (self.uri, self.head, *self._at)


def _newest(dataset: lance.LanceDataset) -> lance.LanceDataset:
    """The latest version; the one given stays as it is for those who read it."""
    return dataset.checkout_version(dataset.latest_version)


def _rows(dataset: lance.LanceDataset, by: str, samples: int, uri: str) -> np.ndarray:
    """The row id of each sample; of two rows of one, which are equal, the later."""
    found = np.full(samples, -1, np.int64)
    for batch in dataset.scanner(columns=["sample", "by"], with_row_id=True).to_batches():
        if any(other != by for other in batch["by"].unique().to_pylist()):
            raise UserError(f"{uri} holds latents of another encoder or manifest", "encode to another place")
        numbers = batch["sample"].to_numpy()
        if len(numbers) and (numbers.min() < 0 or numbers.max() >= samples):
            raise UserError(f"{uri} holds samples that the manifest does not have", "encode to another place")
        found[numbers] = batch["_rowid"].to_numpy()
    return found


def _file(uri: str, storage_options: Mapping[str, str] | None) -> bytes | None:
    """The content of the head, None where there is none; OSError as the disk or the store fails."""
    if "://" not in uri:
        path = Path(uri, HEAD)
        return path.read_bytes() if path.is_file() else None
    from lance.file import LanceFileSession

    session = LanceFileSession(uri, storage_options=dict(storage_options or {}))
    if not session.contains(HEAD):
        return None
    with tempfile.TemporaryDirectory() as folder:
        part = os.path.join(folder, "part")
        session.download_file(HEAD, part)
        return Path(part).read_bytes()
