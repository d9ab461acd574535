"""What a prompt says of frame rate and motion: two facts at its end, known of a training clip, chosen for a sample.

One function writes them for training and for sampling. The public code does not: it trains on
`<caption> 24 FPS, 4 motion score.` and samples with `<prompt>. 24 FPS. 4 motion score.` (spec sections 4.3 and 5). Here
the sentences of its sampler are the default for both, so that a model is asked in the words it was taught; `Form.COMMA`
writes the public training text, for whoever goes on with a run of the public code.
"""

from __future__ import annotations

import re
from enum import Enum

from curation.errors import UserError

DEFAULT_MOTION = 4
LOWEST_MOTION, HIGHEST_MOTION = 1, 15

_ENDS_WITH_RATE = re.compile(r"\d+ FPS\.$")


class Form(Enum):
    SENTENCES = "A cat runs. 24 FPS. 4 motion score."
    COMMA = "A cat runs. 24 FPS, 4 motion score."


def with_suffix(prompt: str, fps: float | None, motion: int | None, form: Form = Form.SENTENCES) -> str:
    """The prompt with its rate and motion score; None of either adds nothing, as for a still image.

    A rate is written as a whole number, halves to the even one: 12.5 is 12, as in the public code. Sentences begin
    after a period, which is added even after "!", and a rate that the prompt ends with is kept whatever it is (golden
    README, "Oddities" 10).
    """
    text = prompt.strip()
    rate = [] if fps is None else [f"{round(fps)} FPS"]
    score = [] if motion is None else [f"{motion} motion score"]
    if form is Form.COMMA:
        return f"{text} {', '.join(rate + score)}.".lstrip() if rate + score else text
    facts = [f"{fact}." for fact in rate + score]
    if not text and facts:  # a clip without a caption
        return " ".join(facts)
    if not text.endswith("."):
        text += "."
    if _ENDS_WITH_RATE.search(text):
        facts = facts[len(rate) :]
    return " ".join([text, *facts])


def measured_motion(vmaf: float) -> int:
    """The score that a clip's prompt has: its VMAF motion as a whole number from 1, a static clip, to 15."""
    return min(max(round(vmaf), LOWEST_MOTION), HIGHEST_MOTION)


def chosen_motion(score: int) -> int:
    """A score as a user gives it. UserError: out of range."""
    if not LOWEST_MOTION <= score <= HIGHEST_MOTION:
        remedy = f"give {LOWEST_MOTION} to {HIGHEST_MOTION}; {DEFAULT_MOTION} is usual"
        raise UserError(f"a motion score of {score} is out of range", remedy)
    return score
