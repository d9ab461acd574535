"""What was taken down stands in a manifest for ever, is told, and is named when it is taken down."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from curation.pyramid.store import Pyramid
from curation.pyramid.takedown import tombstones
from curation.pyramid.takedown.forget import forget
from curation.shards import folder
from curation.shards.freezing import TAKEN_DOWN, freeze
from curation.shards.manifest import Manifest
from curation.shards.takedown import forgotten, naming
from pipelines.commands.lifecycle import forget as command
from tests.curation.pyramid.build import TIERS
from tests.curation.shards.build import assign, filled, order

ONE, TWO = "a" * 32, "b" * 32


@pytest.fixture
def pyramid(tmp_path: Path) -> Pyramid:
    made = Pyramid.create(tmp_path / "pyramid", TIERS, "test")
    for video_id in (ONE, TWO):
        filled(made, video_id)
    return made


def test_a_forgotten_clip_is_told_and_the_manifest_stays(pyramid: Pyramid) -> None:
    made = freeze(pyramid, pyramid.query(), assign, order("n"))
    freeze(pyramid, pyramid.where(video_id=TWO), assign, order("other"))
    assert forgotten(made, pyramid) == () and naming(pyramid, [ONE]) == ("n",)
    assert naming(pyramid, [TWO]) == ("n", "other") and naming(pyramid, ["c" * 32]) == ()
    done = forget(pyramid, [ONE])
    assert done.pins == ("manifest-n", "manifest-other") and not done.left
    found = folder.open_manifest(pyramid.uri, "n")
    assert found.samples.equals(made.samples)
    gone = [number for number, row in enumerate(made.samples.to_pylist()) if row["video_id"] == ONE]
    assert forgotten(found, pyramid) == tuple(gone) and len(gone) == 3
    kept = {clip_id for clip_id, _, _ in pyramid.media(made.samples["clip_id"].to_pylist())}
    assert kept == {row["clip_id"] for row in made.samples.to_pylist() if row["video_id"] == TWO}


def test_without_the_pin_nothing_is_left_of_it(pyramid: Pyramid) -> None:
    made = freeze(pyramid, pyramid.query(), assign, order("n"))
    forget(pyramid, [ONE])
    pyramid.unpin("manifest-n")
    assert forget(pyramid, [ONE]).pins == ()
    assert len(list(pyramid.media(made.samples["clip_id"].to_pylist()))) == 3
    assert folder.open_manifest(pyramid.uri, "n").manifest == made.manifest


def test_what_is_taken_down_is_not_frozen(pyramid: Pyramid) -> None:
    tombstones.add(pyramid.files, [ONE])  # as a takedown begins: its rows are still there
    made = freeze(pyramid, pyramid.query(), assign, order("n"))
    assert set(made.samples["video_id"].to_pylist()) == {TWO} and made.manifest.missed == {TAKEN_DOWN: 3}


def test_what_is_taken_down_while_it_is_sealed_is_not_frozen(pyramid: Pyramid, monkeypatch: pytest.MonkeyPatch) -> None:
    sealed, written = Manifest.sealed, []

    def sealing(manifest: Manifest, samples: pa.Table) -> tuple[Manifest, bytes]:
        if not written:
            written.append(tombstones.add(pyramid.files, [ONE]))
        return sealed(manifest, samples)

    monkeypatch.setattr(Manifest, "sealed", sealing)
    made = freeze(pyramid, pyramid.query(), assign, order("n"))
    assert written and set(made.samples["video_id"].to_pylist()) == {TWO}
    assert made.manifest.missed == {TAKEN_DOWN: 3}
    assert folder.open_manifest(pyramid.uri, "n").samples.equals(made.samples)


def test_a_manifest_that_is_frozen_while_the_person_is_asked_is_named(pyramid: Pyramid) -> None:
    wanted = command.takedown(pyramid.uri, [ONE])
    freeze(pyramid, pyramid.query(), assign, order("n"))
    assert wanted.manifests == () and command.forget(wanted).manifests == ("n",)


def test_a_manifest_that_cannot_be_read_is_named(pyramid: Pyramid) -> None:
    freeze(pyramid, pyramid.query(), assign, order("n"))
    for path in Path(pyramid.uri, "manifests").glob("*.parquet"):
        path.write_bytes(b"")
    assert naming(pyramid, ["c" * 32]) == ("n",)
