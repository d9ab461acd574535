"""The contract: every reason is explained, and documented."""

from pathlib import Path

from curation.contract import CLIPS, SCORES, Ending, Reason, Status
from curation.reasons import REASONS

DOCS = Path(__file__).parents[2] / "docs"


def test_every_reason_is_explained_and_documented() -> None:
    page = (DOCS / "reasons.md").read_text()
    assert set(REASONS) == set(Reason)
    for reason in Reason:
        assert f"| `{reason}` | {reason.status} | {REASONS[reason]} |" in page


def test_a_reason_rejects_or_quarantines() -> None:
    assert {reason.status for reason in Reason} == {Status.REJECTED, Status.QUARANTINED}
    assert Reason.CRASHED.status is Status.QUARANTINED
    assert Reason.LOW_BPP.status is Status.REJECTED


def test_every_score_has_its_fingerprint_and_its_why() -> None:
    for score in SCORES:
        assert {score, f"{score}_by", f"{score}_why"} <= set(CLIPS.names)
        assert CLIPS.field(score).nullable


def test_every_ending_of_a_clip_is_documented() -> None:
    page = (DOCS / "clips.md").read_text()
    for ending in Ending:
        assert f"| `{ending}` | " in page
