"""What names a cluster: the words that are typical of its captions.

    clusters and captions of clips -> [ClusterWords.add] -> [typical] -> some words for each cluster

`gather` counts with it. A word counts once a clip. Typical is what many clips of the cluster have and few others: its
clips there, times the logarithm of all clips by those with the word (TF-IDF with a cluster for a document, Spärck Jones
1972).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping

from curation.stats import stop_words
from curation.stats.counting import MOST, Tally

TOLD = 5
"""Words of a cluster."""


class ClusterWords:
    """Counts of words by cluster."""

    def __init__(self, most: int = MOST) -> None:
        self._clips: Counter[int] = Counter()
        self._words: Tally[tuple[int, str]] = Tally(most)

    @property
    def is_exact(self) -> bool:
        """See `counting.Tally`."""
        return self._words.is_exact

    def add(self, cluster: int | None, words: Iterable[str]) -> None:
        """The words of a clip's caption, in small letters."""
        if cluster is not None:
            self._clips[cluster] += 1
            self._words.add((cluster, word) for word in {*words} if stop_words.tells(word))

    def typical(self, clusters: Iterable[int]) -> Mapping[int, tuple[str, ...]]:
        """The words of some clusters, the most typical first; none for one without captions, or whose words all clips
        have.
        """
        wanted, clips = {*clusters}, self._clips.total()
        with_word, found = Counter[str](), {cluster: Counter[str]() for cluster in wanted}
        for (cluster, word), count in self._words.items():
            with_word[word] += count
            if cluster in wanted:
                found[cluster][word] = count
        told = {}
        for cluster, words in found.items():
            weights = {word: count * math.log(clips / with_word[word]) for word, count in words.items()}
            best = sorted(weights.items(), key=lambda pair: (-pair[1], pair[0]))
            told[cluster] = tuple(word for word, weight in best[:TOLD] if weight > 0)
        return told
