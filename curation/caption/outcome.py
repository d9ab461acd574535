"""What comes of a clip: its conversation with a model, carried to the end, as one `Said`. Every engine goes this way.

    Asked -> [composing] -> requests -> an engine's `send` -> answers -> [composing] -> Said

An engine says how a request is sent and counts on the clip's `Tally` what its answers took; which request comes next,
which answer will do, and what of an error is the clip's reason, is the same for all of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from curation.caption.base import Asked, Said
from curation.caption.composing import Composed, Send, WillNotDoError, composed
from curation.caption.prompts import Prompt
from curation.caption.transport import Failed, Refused, without_key
from curation.contract import Reason
from curation.errors import UserError
from curation.pyramid.history.failures import failure

_WARMER = 0.5
"""The least temperature at which a model is asked once more: at 0 it would say again what would not do."""

_ENDS = ("stop", "length", "content_filter", "tool_calls", "function_call", "eos", "end_turn", "abort")
"""How answers end, in the words of servers; any other word may be anything."""

Cost = Callable[[int, int], float | None]
"""US dollars of so many tokens (in, out); None where no price is known."""


@dataclass(slots=True)
class Tally:
    """What the requests for one clip have come to. `began`: of the clock `time.monotonic`."""

    requests: int = 0
    answered: int = 0
    counted: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    finish_reason: str | None = None
    began: float = field(default_factory=time.monotonic)

    def ended(self, finish_reason: str | None) -> None:
        """An answer has come, which ended so."""
        self.answered += 1
        self.finish_reason = finish_reason if finish_reason in (None, *_ENDS) else "other"

    def count(self, tokens_in: int, tokens_out: int) -> None:
        """That answer took so many tokens."""
        self.counted += 1
        self.tokens_in += tokens_in
        self.tokens_out += tokens_out


def drawn(temperature: float, seed: int | None, again: int) -> tuple[float, int | None]:
    """Temperature and seed of a request that was asked `again` times before, in vain: warmer, and with another seed."""
    return max(temperature, _WARMER) if again else temperature, None if seed is None else seed + again


async def outcome(
    prompt: Prompt,
    asked: Asked,
    send: Send,
    tally: Tally,
    cost: Cost = lambda tokens_in, tokens_out: None,
    told: Callable[[str], str] = lambda text: without_key(text, None),
    raises: tuple[type[Exception], ...] = (UserError,),
) -> Said:
    """What comes of one clip; a fault of ours is that clip's, and costs no other. `told`: makes an error's text fit to
    be written down. Of what `send` raises only `raises` are raised here: what says nothing of this clip.
    """
    made: Composed | str
    try:
        made = await composed(prompt, asked, send)
    except (WillNotDoError, Failed, Refused) as error:
        made = error.why
    except raises:
        raise
    except Exception as error:
        what = told(f"{type(error).__name__}: {error}")
        made = failure(Reason.INTERNAL, what.encode(errors="replace").decode())
    is_counted = tally.counted == tally.answered > 0
    return Said(
        clip_id=asked.clip_id,
        caption=None if isinstance(made, str) else made.caption,
        why=made if isinstance(made, str) else None,
        short=None if isinstance(made, str) else made.short,
        fields={} if isinstance(made, str) else made.fields,
        finish_reason=tally.finish_reason,
        requests=tally.requests,
        tokens_in=tally.tokens_in if is_counted else None,
        tokens_out=tally.tokens_out if is_counted else None,
        usd=cost(tally.tokens_in, tally.tokens_out) if is_counted else None,
        seconds=time.monotonic() - tally.began,
    )
