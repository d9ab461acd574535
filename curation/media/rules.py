"""The input rules of the report (section 2.1.1): each rejects with its own reason and the measured value.

Applied by the measuring pass before any frame but the first is decoded. Thresholds come from the recipe.
"""

from __future__ import annotations

from curation.contract import Facts, Reason, Verdict
from curation.media.plan import Rules
from curation.media.stream.timeline import Timeline


def too_few_bits(facts: Facts, rules: Rules) -> Verdict | None:
    """The rule on bits a pixel."""
    if facts.bpp is not None and facts.bpp < rules.min_bpp:
        return Verdict(Reason.LOW_BPP, facts.bpp, f"the rule asks for {rules.min_bpp:g}")
    return None


def judge(facts: Facts, timeline: Timeline, rules: Rules) -> Verdict | None:
    """The first rule that a source breaks, or None."""
    if timeline.packets == 0:
        return Verdict(Reason.NO_FRAMES, detail=f"{timeline.announced} announced, none in the file")
    present = timeline.packets / timeline.announced
    if present < rules.min_decoded:
        lost = f"{timeline.packets} of {timeline.announced} frames are in the file"
        return Verdict(Reason.BROKEN, present, lost)
    if timeline.untimed > rules.max_untimed and timeline.times.size:
        return Verdict(Reason.BAD_TIMESTAMPS, timeline.untimed)
    assert facts.duration_s is not None and facts.fps is not None, "only an image has none"
    if facts.duration_s < rules.min_duration_s:
        return Verdict(Reason.TOO_SHORT, facts.duration_s, f"the rule asks for {rules.min_duration_s:g} s")
    if facts.fps < rules.min_fps:
        return Verdict(Reason.LOW_FPS, facts.fps, f"the rule asks for {rules.min_fps:g}")
    if not rules.min_aspect <= facts.aspect <= rules.max_aspect:
        asked = f"the rule asks for {rules.min_aspect:.4g} to {rules.max_aspect:.4g}"
        return Verdict(Reason.BAD_ASPECT, facts.aspect, f"{facts.width}x{facts.height} as displayed; {asked}")
    if verdict := too_few_bits(facts, rules):
        return verdict
    if facts.codec == "h264" and facts.profile in rules.banned_profiles:
        return Verdict(Reason.BANNED_PROFILE, None, f"H.264 {facts.profile}")
    return None
