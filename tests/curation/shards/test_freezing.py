"""A freeze gives one whole manifest of what was there, or leaves nothing; and no other is ever touched."""

from __future__ import annotations

import hashlib
import multiprocessing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from curation.errors import UserError
from curation.pyramid.commits.commit import Batch, Committer
from curation.pyramid.lifecycle.upkeep import upkeep
from curation.pyramid.storage.datasets import NAMES
from curation.pyramid.storage.locks import only_freezer
from curation.pyramid.store import Pyramid
from curation.shards import folder
from curation.shards.freezing import freeze, number_of
from curation.shards.manifest import Frozen
from tests.curation.pyramid.build import TIERS, whole_video
from tests.curation.shards.build import assign, die_in_freeze, filled, order, pictured


@pytest.fixture
def pyramid(tmp_path: Path) -> Pyramid:
    made = Pyramid.create(tmp_path / "pyramid", TIERS, "test")
    filled(made, "v1")
    filled(made, "v2", 2)
    pictured(made, "i1")
    return made


def frozen(pyramid: Pyramid, name: str = "n", **values: Any) -> Frozen:
    return freeze(pyramid, pyramid.query(), assign, order(name, **values))


def pins(pyramid: Pyramid) -> set[str]:
    return {tag for name in NAMES for tag in pyramid.dataset(name).tags.list()}


def files(pyramid: Pyramid) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path(pyramid.uri, "manifests").glob("*")}


def test_the_samples_are_the_clips_in_the_order_of_their_ids(pyramid: Pyramid) -> None:
    made = frozen(pyramid)
    rows = made.samples.to_pylist()
    ids = [row["clip_id"] for row in rows]
    assert ids == sorted(pyramid.query().ids()) and made.manifest.samples == 6
    stored = {name: (content, digest) for name, content, digest in pyramid.media(ids)}
    for row in rows:
        content, digest = stored[row["clip_id"]]
        assert row["media"] == digest == hashlib.sha256(content).hexdigest()
    image = next(row for row in rows if row["kind"] == "image")
    assert (image["bucket_frames"], image["fps"], image["motion"], image["caption"]) == (1, None, None, "an image")
    video = next(row for row in rows if row["video_id"] == "v1")
    assert (video["kind"], video["frames"], video["bucket_fps"], video["caption_by"]) == ("video", 60, 24.0, "given")
    assert made.manifest.buckets == {"128px 1": 1, "128px 16": 5}
    assert made.manifest.versions == {name: pyramid.dataset(name, "manifest-n").version for name in NAMES}


def test_what_is_opened_is_what_was_frozen(pyramid: Pyramid) -> None:
    made = frozen(pyramid)
    for address in (f"{pyramid.uri}#n", f"{pyramid.uri}/manifests/n.json"):
        there, found = folder.opened(address)
        assert there.uri == pyramid.uri and found.manifest == made.manifest and found.samples.equals(made.samples)
    assert folder.open_manifest(pyramid.uri, "n").manifest == made.manifest
    assert folder.listed(pyramid.files) == ["n"]


def test_two_names_have_equal_rows(pyramid: Pyramid) -> None:
    one, two = frozen(pyramid, "one"), frozen(pyramid, "two")
    assert one.samples.equals(two.samples) and one.manifest.sha256 != two.manifest.sha256


def test_a_clip_is_numbered_alike_whatever_else_is_there(pyramid: Pyramid) -> None:
    seen: list[dict[str, int]] = []

    def watching(number: int, clip: Any) -> Any:
        seen[-1][clip["clip_id"]] = number
        return assign(number, clip)

    for name in ("one", "two"):
        seen.append({})
        freeze(pyramid, pyramid.query(), watching, order(name))
        filled(pyramid, "v0", 5)
    assert seen[0].items() <= seen[1].items() and len(seen[1]) == 11
    assert all(number == number_of(clip_id) for clip_id, number in seen[1].items())
    assert len(set(seen[1].values())) == 11 and all(0 <= number < 2**63 for number in seen[1].values())


def test_what_is_no_sample_is_counted_by_its_reason(pyramid: Pyramid) -> None:
    filled(pyramid, "v3", 2, width=64)
    filled(pyramid, "v4", 1, caption=None, caption_by=None)
    filled(pyramid, "v5", 1, caption=" ")
    assert frozen(pyramid).manifest.missed == {"too small": 2, "no caption": 2}
    made = frozen(pyramid, "all", without_captions=True)
    assert made.manifest.missed == {"too small": 2}
    assert [row["caption"] for row in made.samples.to_pylist() if row["video_id"] == "v4"] == [""]


def test_clips_that_are_not_cut(pyramid: Pyramid) -> None:
    batch = whole_video(pyramid, "v6", 2)
    Committer(pyramid).commit(Batch(samples=batch.samples, clips=batch.clips, videos=batch.videos))
    assert frozen(pyramid).manifest.missed == {"not cut": 2}


def test_no_sample_leaves_nothing(pyramid: Pyramid) -> None:
    before = pins(pyramid)
    with pytest.raises(UserError, match="no clip becomes a sample \\(small 6\\); add a smaller one"):
        freeze(pyramid, pyramid.query(), lambda *_: "small", order("n", remedies={"small": "add a smaller one"}))
    with pytest.raises(UserError, match="no clip is in this tier"):
        freeze(pyramid, pyramid.where(width=(9999, None)), assign, order("n"))
    assert pins(pyramid) == before == set() and files(pyramid) == {}
    frozen(pyramid)


def test_a_name_is_given_once(pyramid: Pyramid) -> None:
    frozen(pyramid)
    before = files(pyramid)
    filled(pyramid, "v3")
    with pytest.raises(UserError, match="there is a manifest n already"):
        frozen(pyramid)
    assert files(pyramid) == before and pins(pyramid) == {"manifest-n"}
    assert folder.open_manifest(pyramid.uri, "n").manifest.samples == 6


def test_a_name_that_comes_meanwhile_is_not_overwritten(pyramid: Pyramid, monkeypatch: pytest.MonkeyPatch) -> None:
    other = frozen(pyramid, "other").manifest
    written = folder._put_new

    def late(files: Any, name: str, content: bytes) -> bool:
        Path(files.uri, name).write_bytes(other.to_json())
        return written(files, name, content)

    monkeypatch.setattr(folder, "_put_new", late)
    with pytest.raises(UserError, match="there is a manifest n already"):
        frozen(pyramid)
    assert Path(pyramid.uri, "manifests", "n.json").read_bytes() == other.to_json()


@pytest.mark.parametrize("name", ["", ".", "a.", ".a", "a..b", "a/b", "a b", "-a", "a.lock", "é", "a" * 81, "a#b"])
def test_no_name(pyramid: Pyramid, name: str) -> None:
    with pytest.raises(UserError, match="is no name for a manifest"):
        frozen(pyramid, name)
    assert pins(pyramid) == set()


@pytest.mark.parametrize("step", [0, 1, 2, 3])
def test_a_killed_freeze_can_be_given_again(pyramid: Pyramid, step: int) -> None:
    child = multiprocessing.get_context("spawn").Process(target=die_in_freeze, args=(pyramid.uri, step))
    child.start()
    child.join()
    assert child.exitcode == -9 and folder.listed(pyramid.files) == [] and pins(pyramid) == {"manifest-n"}
    filled(pyramid, "v3")
    assert frozen(pyramid).manifest.samples == 9
    assert len(files(pyramid)) == 2
    assert pyramid.dataset("clips", "manifest-n").version == frozen(pyramid, "m").manifest.versions["clips"]


def test_what_a_killed_freeze_has_pinned_goes_with_the_next(pyramid: Pyramid) -> None:
    for name in NAMES[:2]:
        pyramid.dataset(name).tags.create("manifest-dead", pyramid.dataset(name).version)
    pyramid.pin("mine")
    Path(pyramid.uri, "manifests").mkdir()
    Path(pyramid.uri, "manifests", f"dead-{'0' * 12}.parquet").write_bytes(b"")
    frozen(pyramid)
    assert pins(pyramid) == {"manifest-n", "mine"} and len(files(pyramid)) == 2


def test_one_freeze_at_a_time(pyramid: Pyramid) -> None:
    with only_freezer(pyramid), pytest.raises(UserError, match="another freeze is at work"):
        frozen(pyramid)
    frozen(pyramid)


def test_what_was_frozen_stays_through_an_upkeep(pyramid: Pyramid) -> None:
    made = frozen(pyramid)
    filled(pyramid, "v3")
    upkeep(pyramid, timedelta(0))
    ids = made.samples["clip_id"].to_pylist()
    version = made.manifest.versions["media"]
    found = {clip_id: digest for clip_id, _, digest in pyramid.media(ids, version)}
    assert found == dict(zip(ids, made.samples["media"].to_pylist(), strict=True))
    assert pyramid.query().at(made.manifest.versions["clips"]).count() == 6


@pytest.mark.parametrize("address", ["n", "#n", "p#", "p", "p/manifests/.json", "p/n.json"])
def test_no_address(address: str) -> None:
    with pytest.raises(UserError, match=r"names no manifest|is no name"):
        folder.parsed(address)


def test_addresses_of_stores() -> None:
    place = "s3://bucket/p?endpoint_override=host:9000"
    assert folder.parsed(f"{place}#n") == (place, "n")
    assert folder.parsed("s3://bucket/p/manifests/n.json?endpoint_override=host:9000") == (place, "n")
    assert folder.parsed("/a#b/p#n") == ("/a#b/p", "n")


def test_what_is_gone_or_damaged_is_one_line(pyramid: Pyramid) -> None:
    with pytest.raises(UserError, match="has no manifest 'n'; it has none yet"):
        folder.open_manifest(pyramid.uri, "n")
    made = frozen(pyramid)
    table = Path(pyramid.uri, "manifests", made.manifest.file)
    whole = table.read_bytes()
    table.write_bytes(whole[:-9])
    with pytest.raises(UserError, match="cannot be read"):
        folder.open_manifest(pyramid.uri, "n")
    table.unlink()
    with pytest.raises(UserError, match="is gone"):
        folder.open_manifest(pyramid.uri, "n")
