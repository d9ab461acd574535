"""The numbers of a small pyramid, each against what was put into it; the same in however many batches they come."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from curation.errors import UserError
from curation.pyramid.queries.query import Query
from curation.pyramid.store import Pyramid
from curation.stats import gather as gathering
from curation.stats.counting import Tally
from curation.stats.gather import gather
from tests.curation.stats.build import clip, clips, filled


@pytest.fixture(scope="module")
def pyramid(tmp_path_factory: pytest.TempPathFactory) -> Pyramid:
    return filled(tmp_path_factory.mktemp("stats") / "p")


def test_distributions_are_those_of_the_clips(pyramid: Pyramid) -> None:
    found = gather(pyramid.query())
    assert (found.clips, found.kinds) == (13, {"video": 12, "image": 1})
    lengths = [row["frames"] / 10 for row in clips() if row["fps"]]
    assert found.hours == pytest.approx(sum(lengths) / 3600)
    expected = {
        "duration_s": (lengths, {"image": 1}),
        "aspect_ratio": ([9 / 16] * 12 + [2.0], {}),
        "aesthetic": ([row["aesthetic"] for row in clips() if row["aesthetic"] is not None], {"weights missing": 1}),
        "motion": ([float(number) for number in range(12)], {"image": 1}),
        "caption_words": ([6, 2, 4, 4, 4, 6, 2, 4, 4, 4, 6], {"caption_loops": 2}),
    }
    for name, (values, missing) in expected.items():
        one = found.numbers[name]
        assert (one.count, one.least, one.most) == (len(values), min(values), max(values)), name
        assert one.mean == pytest.approx(np.mean(values)) and one.quantiles is not None
        assert missing.items() <= one.missing.items() and one.count + sum(one.missing.values()) == 13
        inside = [sum(low <= x < high for x in values) for low, high in zip(one.edges, one.edges[1:], strict=False)]
        assert list(one.counts) == inside and sum(inside) + one.below + one.above == len(values)
    assert found.numbers["aesthetic"].missing == {"not computed yet": 1, "weights missing": 1}
    assert (found.numbers["jitter"].count, found.numbers["jitter"].missing) == (0, {"not computed yet": 13})


def test_captions_sources_and_reasons(pyramid: Pyramid) -> None:
    found = gather(pyramid.query(), own=("label",))
    captions = found.captions
    assert (captions.clips, captions.missing) == (11, {"caption_loops": 2})
    assert captions.by.clips == {"dense/m/0": 10, "given": 1}
    assert (captions.texts, captions.clips_alike) == (3, 11)
    assert (captions.commonest[0].caption, captions.commonest[0].clips) == ("The same. The same.", 6)
    assert captions.words == {"fox": 5, "runs": 3, "snow": 3}, "no stop words"
    assert {name: values.clips for name, values in found.sources.items()} == {
        "host": {"local files": 9, "s3://bucket": 4},
        "folder": {"/in/day": 9, "s3://bucket/night": 4},
        "label": {"cat": 8, "dog": 5},
    }
    assert (found.ended_by, found.not_cut) == ({"shot": 13}, {"timed_out": 1})
    assert found.clusters is not None and found.clusters.clips == {"0": 6, "1": 6}
    assert found.cluster_words == {"0": ("runs", "snow", "fox"), "1": ("fox",)}
    assert list(found.named_clusters.clips.values()) == [6, 6]
    assert found.videos == {"done": 3, "quarantined": 1, "rejected": 1}
    assert found.reasons == {"timed_out": 1, "too_short": 1}


def test_a_query_and_a_maker_are_kept_to(pyramid: Pyramid) -> None:
    found = gather(pyramid.query().where(motion=(2, None)).captions_by("given"), tier="low", words=("motion 2..",))
    assert found.clips == 11 and (found.tier, found.query, found.caption_by) == ("low", ("motion 2..",), ("given",))
    assert found.captions.clips == 0 and found.captions.words == {}
    empty = gather(pyramid.query().where(motion=(99, None), kind="video"))
    assert (empty.clips, empty.clusters, empty.numbers["motion"].count) == (0, None, 0)
    with pytest.raises(UserError, match="no column 'nothing'"):
        gather(pyramid.query(), own=("nothing",))


def test_batches_and_versions_change_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pyramid = filled(tmp_path / "p")
    whole = gather(pyramid.query(), own=("label",))
    batches, passes = Query.batches, [0]

    def in_parts(query: Query, with_row_id: bool = False):
        passes[0] += 1
        if passes[0] == 2:  # between the passes another clip comes
            from tests.curation.pyramid.build import table

            rows = [clip(99, caption="a fox")]
            names = pyramid.schema("clips")
            pyramid.dataset("clips").insert(table(rows, names, *names.names))
        for batch in batches(query, with_row_id):
            yield from (batch.slice(start, 2) for start in range(0, batch.num_rows, 2))

    monkeypatch.setattr(Query, "batches", in_parts)
    assert gather(pyramid.query(), own=("label",)) == whole and passes == [2]


def test_what_is_counted_in_too_little_room_is_told(pyramid: Pyramid, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering, "Tally", lambda: Tally(2))
    found = gather(pyramid.query().where(motion=(None, 11), kind="video"))
    assert not found.captions.words_are_exact and not found.captions.equal_are_exact
    assert found.captions.commonest[0].clips == 5, "at least: one of the six was forgotten"
