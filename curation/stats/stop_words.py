"""Words that say nothing of what a caption shows: articles, pronouns, prepositions, and what captions are full of."""

from __future__ import annotations

_STOP = frozenset(
    """
    a about above across after against all also along am among an and another any are around as at away be because been
    before behind being below beneath beside between beyond both but by can could did do does doing down during each
    either else even ever every few for from further had has have having he her here hers him his how i if in inside
    into is it its itself just less like many may me might more most much my near no nor not of off on once one only
    onto or other others our out outside over own per rather same she should since so some still such than that the
    their them then there these they this those through throughout to together too toward towards two under until up
    upon us very was we were what when where which while who whose will with within without would you your
    s t
    appear appears appearing seem seems seen show shows shown showing
    caption clip frame frames image images photo picture scene shot video
    """.split()
)


def tells(word: str) -> bool:
    """Whether a word, in small letters, may stand in a word cloud."""
    return word not in _STOP and not word.isdigit()
