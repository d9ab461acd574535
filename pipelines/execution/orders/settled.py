"""Which sources a run has nothing to do for, and which of them it measures again all the same.

Asked for each window of the listing, before a byte is read, by `pipelines.curate` and its dry run.
"""

from __future__ import annotations

from collections.abc import Sequence

from curation.contract import Source
from curation.media.plan import MediaPlan
from curation.pyramid.history.ledger import Ledger
from curation.rows import attempt_fingerprint, frame_fingerprints


def settled_under(ledger: Ledger, plan: MediaPlan, sources: Sequence[Source], retry: bool) -> set[Source]:
    """Those of `sources` for which a run that measures by `plan` has nothing to do, whatever their scores are."""
    return ledger.settled(sources, plan.fingerprint, retry, attempt_fingerprint(plan))


def stale_uris(ledger: Ledger, plan: MediaPlan, retry: bool) -> set[str]:
    """The names of videos with a frame score that another version of its filter made, or at another size. Not of those
    that were measured again for it in vain, unless they are tried again.
    """
    stale, attempt = ledger.stale_videos(frame_fingerprints(plan)), attempt_fingerprint(plan)
    return {uri for known in ledger.lookup(stale).values() if retry or known.tried != attempt for uri in known.uris}
