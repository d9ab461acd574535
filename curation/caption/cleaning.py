"""What of a model's text is a caption: packaging, stock openers and sentences about absence go; loops are found.

Rules and no model, so that the same text always gives the same caption. `composing` applies them to every answer.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from itertools import pairwise

MOST = 32_768
"""Characters of the longest text that is looked at: no caption is that long, and what a rule costs grows with it."""

_STEERING = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|\x9b[0-?]*[ -/]*[@-~]|"
    r"[\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]"
)
"""What steers a terminal, or turns the direction in which a text is shown."""
_NOT_SHOWN = ("Cc", "Cs")
"""Categories of characters that are none of a caption: controls, and halves of a pair, which no file can hold."""
_THOUGHT = re.compile(r"<think>.*?</think>", re.DOTALL | re.IGNORECASE)
_FENCE, _LANGUAGE = "```", re.compile(r"[\w-]*[ \t]*(?:\n|(?=\{))")
_LABEL = re.compile(
    r"^(?:(?:sure|certainly|of course|okay)[,!.]\s*)?(?:here(?:'s| is| are)\b[^.:\n]{0,80}:|"
    r"(?:(?:dense|short|detailed|video) )?(?:caption|description)\s*:)\s*",
    re.IGNORECASE,
)
_QUOTES = {'"': '"', "'": "'", "“": "”", "‘": "’", "«": "»", "`": "`"}
_END = re.compile(r"[.!?。！？…]['\"”’)\]»]*$")
_BETWEEN = re.compile(r"(?<=[.!?。！？…])['\"”’)\]»]*\s+|(?<=[。！？])")

_FILM = r"(?:video|clip|footage|film|image|picture|photo|frames?|sequence|scene)(?: clip| footage| sequence)?"
_SHOWS = (
    r"(?:(?:also|then|clearly|mainly|primarily|prominently|simply) )?"
    r"(?:shows?|depicts?|features?|captures?|presents?|displays?|portrays?|illustrates?|showcases?|"
    r"(?:begins|starts|opens) with|consists of|is (?:of|about))(?: that)?"
)
_OPENERS = (
    re.compile(
        rf"^(?:in )?(?:this|the|these)(?: (?:short|whole|given|provided))? {_FILM} {_SHOWS}[,:]? ", re.IGNORECASE
    ),
    re.compile(
        rf"^(?:in|throughout|from) (?:this|the|these)(?: (?:short|whole|given|provided))? {_FILM}, "
        r"(?:(?:we (?:can )?see|you (?:can )?see|there (?:is|are)|one (?:can )?sees?) )?",
        re.IGNORECASE,
    ),
    re.compile(r"^(?:we|you) (?:can |are able to )?see (?:that )?", re.IGNORECASE),
)

_SEEN = r"(?:visible|present|seen|shown|discernible|apparent|depicted|noticeable|detected|identifiable)"
_ABSENCE = (
    re.compile(
        r"^there(?:'s| (?:is|are|was|were|seems? to be|appears? to be)) "
        r"(?:no(?! doubt| shortage| longer)|not any|nothing|no one|nobody)\b",
        re.IGNORECASE,
    ),
    re.compile(rf"^(?:no|neither|none of) .*\b(?:is|are|was|were|can be)(?: (?:\w+ly|else))? {_SEEN}\b", re.IGNORECASE),
    re.compile(rf"^nothing (?:else )?(?:is|can be) {_SEEN}\b", re.IGNORECASE),
    re.compile(
        rf"^(?:the|this) {_FILM} (?:does not|doesn't|do not|contains? no|has no|shows? no|includes? no|features? no)\b",
        re.IGNORECASE,
    ),
    re.compile(
        r"^(?:(?:any|the) )?(?:other )?(?:text|subtitles?|captions?|logos?|watermarks?|people|persons?|objects?) "
        rf"(?:is|are) (?:not {_SEEN}|absent)\b",
        re.IGNORECASE,
    ),
)

_DECLINES = re.compile(
    r"^(?:i['’]?m sorry|i am sorry|sorry,|i can(?:no|['’])t\b|i am unable|i['’]m unable|as an ai\b|unfortunately, i\b)",
    re.IGNORECASE,
)

_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|\w+")
_LONGEST = 24
"""Words of the longest run that is looked for again behind itself."""


def cleaned(text: str) -> str:
    """The caption in a text; "" where nothing of it is one."""
    kept = [_opened(sentence) for sentence in sentences(unpacked(text)) if not says_absence(sentence)]
    return " ".join(part for part in kept if part)


def plain(text: str) -> str:
    """A text of characters that are shown, and white space."""
    text = _STEERING.sub("", text)
    return "".join(one for one in text if one.isspace() or unicodedata.category(one) not in _NOT_SHOWN)


def unpacked(text: str) -> str:
    """A text without thoughts, code fences, labels, marks of emphasis and quotes around it, on one line."""
    text = _unfenced(_THOUGHT.sub("", plain(text)).strip())
    text = _LABEL.sub("", " ".join(text.replace("**", "").split()))
    while len(text) > 1 and _QUOTES.get(text[0]) == text[-1] and text[0] not in text[1:-1]:
        text = text[1:-1].strip()
    return text


def _unfenced(text: str) -> str:
    """What stands between two fences of code around a text, without the name of its language."""
    if len(text) < 2 * len(_FENCE) or not (text.startswith(_FENCE) and text.endswith(_FENCE)):
        return text
    inner = text[len(_FENCE) : -len(_FENCE)]
    return _LANGUAGE.sub("", inner, count=1) if _LANGUAGE.match(inner) else inner


def sentences(text: str) -> list[str]:
    """The sentences of a text on one line."""
    ends = [0, *(found.end() for found in _BETWEEN.finditer(text)), len(text)]
    return [part for start, end in pairwise(ends) if (part := text[start:end].strip())]


def says_absence(sentence: str) -> bool:
    """Whether a sentence says only what a clip does not show."""
    return any(rule.match(sentence) for rule in _ABSENCE)


def is_ended(text: str) -> bool:
    """Whether a text ends as a sentence does."""
    return bool(_END.search(text.strip()))


def declines(text: str) -> bool:
    """Whether a model says that it does not answer."""
    return bool(_DECLINES.match(text))


def loop_in(text: str) -> str | None:
    """What a text repeats as only a model in a loop does: a sentence of five words or more a second time, or a run of
    words again and again behind itself (one or two words four times, more of them three times). None for none.
    """
    seen: set[tuple[str, ...]] = set()
    for sentence in sentences(text):
        words = tuple(words_of(sentence))
        if len(words) >= 5 and words in seen:
            return sentence
        seen.add(words)
    words = list(words_of(text))
    for size in range(1, _LONGEST + 1):
        least = 4 if size < 3 else 3
        same = 0
        for place in range(size, len(words)):
            same = same + 1 if words[place] == words[place - size] else 0
            if same >= size * (least - 1):
                return " ".join(words[place - size + 1 : place + 1])
    return None


def _opened(sentence: str) -> str:
    """A sentence without its stock opener."""
    short = sentence
    for rule in _OPENERS:
        short = rule.sub("", short, count=1)
    return short if short == sentence else short[:1].upper() + short[1:]


def words_of(text: str) -> Iterator[str]:
    """The words of a text in small letters; where a script writes none apart, its characters."""
    return map(str.lower, _WORD.findall(text))
