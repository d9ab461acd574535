"""The words that name clusters."""

from __future__ import annotations

from curation.caption.cleaning import words_of
from curation.stats.cluster_words import TOLD, ClusterWords


def counted(*clips: tuple[int | None, str], most: int = 1000) -> ClusterWords:
    found = ClusterWords(most)
    for cluster, caption in clips:
        found.add(cluster, words_of(caption))
    return found


def test_typical_is_what_a_cluster_has_and_others_have_not() -> None:
    found = counted(
        (0, "A dog runs on a beach, and the dog barks."),
        (0, "A dog swims."),
        (0, "Waves at a beach in the sun."),
        (1, "A car in the rain, in the sun."),
        (1, "A red car."),
        (None, "A dog of no cluster."),
    )
    told = found.typical([0, 1, 2])
    assert told[0][:2] == ("beach", "dog") and told[1][0] == "car" and told[2] == ()
    assert "sun" not in told[0][:2] and "the" not in told[0] and len(told[0]) == TOLD
    assert found.typical([1]) == {1: told[1]}


def test_what_there_is_no_room_for_is_told() -> None:
    assert counted((0, "rain snow"), (1, "sun")).is_exact
    assert not counted((0, "rain snow"), (1, "sun fog"), most=2).is_exact


def test_what_all_clips_have_names_nothing() -> None:
    assert counted((0, "rain"), (1, "rain")).typical([0, 1]) == {0: (), 1: ()}
    assert counted().typical([3]) == {3: ()}
