"""Which reasons count as losses: what a run's exit code 1 stands for."""

from __future__ import annotations

from pathlib import Path

import pytest

from curation.contract import Reason, Status
from curation.reasons import BLAME, Blame, is_lost, loses

LOST = {Reason.UNREADABLE, Reason.WORKER_LOST, Reason.INTERNAL, Reason.OTHER_FRAMES}


def test_every_reason_has_its_blame() -> None:
    assert set(BLAME) == set(Reason)
    assert {reason for reason in Reason if is_lost(reason)} == LOST


@pytest.mark.parametrize("reason", Reason)
def test_a_rule_that_refuses_is_never_a_loss_and_every_loss_is_quarantined(reason: Reason) -> None:
    assert not (reason.status is Status.REJECTED and is_lost(reason))
    assert (BLAME[reason] is Blame.RULE) <= (reason.status is Status.REJECTED)


def test_the_reason_stands_before_the_colon() -> None:
    assert loses("internal_error") and loses("internal_error: KeyError: 'a'")
    assert loses("unreadable: timed out")
    assert not loses("decoder_crashed: SIGSEGV")
    for why in ("filter off", "not run yet", "weights missing", "", "internal_errors", "file:///a holds other bytes"):
        assert not loses(why), why


def test_the_page_of_commands_names_every_loss() -> None:
    page = (Path(__file__).parents[2] / "docs" / "commands.md").read_text()
    losses, _, others = page.partition("What counts as a loss")[2].partition("What a rule refuses")
    assert {reason for reason in Reason if f"`{reason}`" in losses} == LOST
    spared = {r for r in Reason if r.status is Status.QUARANTINED} - LOST
    assert all(f"`{reason}`" in others for reason in spared)
