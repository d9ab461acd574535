"""vLLM as an `Engine`: the model loaded into this process (or into one that vLLM starts), driven step by step.

Prompts are made by vLLM itself, of chat messages, as its server makes them: so the same model says the same by
`engine = "vllm"` and by an endpoint that vLLM serves. Imported in vLLM's own environment alone.
"""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from typing import Any

from curation.caption.offline.base import ENVIRONMENT, Done, Settings
from curation.caption.outcome import drawn
from curation.caption.prompts import Request
from curation.caption.transport import Refused, without_key
from curation.errors import UserError


class VllmEngine:
    """See `Engine`. Raises `UserError` where the model cannot be loaded."""

    def __init__(self, settings: Settings) -> None:
        os.environ.update(settings.variables)
        try:
            from vllm import LLM
        except ImportError as error:
            raise UserError(f"vLLM cannot be imported ({error})", f"{ENVIRONMENT}, and name its `python`") from error
        self._set = settings
        try:
            self._llm = LLM(**settings.engine_arguments)
        except Exception as error:  # whatever its loaders raise
            told = without_key(f"{type(error).__name__}: {error}", None)
            raise UserError(f"vLLM cannot load {settings.model} ({told})", "see `engine_args` in the recipe") from error
        self._names = _Names()
        self._llm.request_counter = self._names
        self._defaults: dict[str, Any] = dict(self._llm.model_config.get_diff_sampling_param())

    def begin(self, name: str, request: Request) -> None:
        """See `Engine.begin`."""
        from vllm.v1.engine.exceptions import EngineDeadError

        self._names.next = name
        try:
            self._llm.enqueue_chat(messages(request), self._parameters(request), use_tqdm=False)
        except EngineDeadError:
            raise
        except (
            ValueError,
            TypeError,
            NotImplementedError,
        ) as error:
            # A prompt that is too long, say, or a schema that no backend follows.
            raise Refused(without_key(f"{type(error).__name__}: {error}", None)) from error

    def step(self) -> Sequence[Done]:
        """See `Engine.step`."""
        found: list[Done] = []
        for output in self._llm.llm_engine.step():
            if output.finished:
                answer = output.outputs[0]
                tokens = len(output.prompt_token_ids or ()), len(answer.token_ids)
                found.append(Done(output.request_id, answer.text, answer.finish_reason, *tokens))
        return found

    def close(self) -> None:
        """End vLLM's own process, where it has one."""
        self._llm.llm_engine.engine_core.shutdown()

    def _parameters(self, request: Request) -> Any:
        from vllm import SamplingParams
        from vllm.sampling_params import StructuredOutputsParams

        temperature, seed = drawn(self._set.temperature, self._set.seed, request.again)
        wanted: dict[str, Any] = {"temperature": temperature, "seed": seed, "max_tokens": self._set.max_tokens}
        if request.schema is not None:
            wanted["structured_outputs"] = StructuredOutputsParams(json=dict(request.schema))
        return SamplingParams(**{**self._defaults, **wanted})


class _Names:
    """What vLLM calls its next request: it asks here as it would ask its own counter."""

    next = ""

    def __iter__(self) -> _Names:
        return self

    def __next__(self) -> str:
        assert self.next, "a request has a name before it is begun"
        name, self.next = self.next, ""
        return name


def messages(request: Request) -> list[dict[str, Any]]:
    """A request as vLLM's chat takes it. The pictures are files that `caption.pictures` encoded, of pixels that came
    out of the sandbox: no stranger's bytes are decoded here.
    """
    from PIL import Image

    pictures = (Image.open(io.BytesIO(one)) for one in request.pictures)
    content: list[dict[str, Any]] = [{"type": "image_pil", "image_pil": one.convert("RGB")} for one in pictures]
    content.append({"type": "text", "text": request.text})
    system = [{"role": "system", "content": request.system}] if request.system else []
    return [*system, {"role": "user", "content": content if request.pictures else request.text}]
