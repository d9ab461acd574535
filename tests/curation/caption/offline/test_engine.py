"""vLLM as an engine, with a stand-in for vLLM: what it is started with, asked and told. With vLLM itself:
`tests/e2e/test_vllm_job.py`.
"""

from __future__ import annotations

import sys
import types
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from curation.caption.offline.base import Done, Settings
from curation.caption.offline.engine import VllmEngine, messages
from curation.caption.prompts import Request
from curation.caption.transport import Refused
from curation.errors import UserError

PICTURE = cv2.imencode(".jpg", np.full((8, 16, 3), (255, 0, 0), np.uint8))[1].tobytes()
SCHEMA = {"type": "object"}


class DeadError(Exception):
    """vLLM's word for an engine that is gone."""


class Stub:
    """What is used of `vllm.LLM`. `raises`: the next request does."""

    made: dict[str, Any]
    cannot: Exception | None = None

    def __init__(self, **arguments: Any) -> None:
        if self.cannot is not None:
            raise self.cannot
        type(self).made = arguments
        self.model_config = SimpleNamespace(get_diff_sampling_param=lambda: {"top_p": 0.8, "temperature": 0.7})
        self.asked: list[tuple[str, Any, Any]] = []
        self.raises: Exception | None = None
        self.request_counter: Any = None
        self.llm_engine = SimpleNamespace(step=self.step, engine_core=SimpleNamespace(shutdown=lambda: None))

    def enqueue_chat(self, messages: Any, parameters: Any, use_tqdm: bool) -> list[str]:
        if self.raises is not None:
            raise self.raises
        self.asked.append((str(next(self.request_counter)), messages, parameters))
        return [self.asked[-1][0]]

    def step(self) -> list[Any]:
        answer = SimpleNamespace(text="A man.", token_ids=[1, 2], finish_reason="stop")
        one = SimpleNamespace(request_id=self.asked[0][0], finished=True, outputs=[answer], prompt_token_ids=[1, 2, 3])
        return [one, SimpleNamespace(finished=False)]


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> type[Stub]:
    """vLLM's modules, with the stand-in in them."""
    of: dict[str, dict[str, Any]] = {
        "vllm": {"LLM": Stub, "SamplingParams": lambda **given: given},
        "vllm.sampling_params": {"StructuredOutputsParams": lambda json: ("by", json)},
        "vllm.v1": {},
        "vllm.v1.engine": {},
        "vllm.v1.engine.exceptions": {"EngineDeadError": DeadError},
    }
    for name, things in of.items():
        module: Any = types.ModuleType(name)
        module.__dict__.update(things)
        monkeypatch.setitem(sys.modules, name, module)
    for name in Settings("m").variables:
        monkeypatch.setenv(name, "0")
    monkeypatch.setattr(Stub, "cannot", None)
    return Stub


def test_a_request_bears_its_name_and_what_the_settings_and_its_try_say(stub: type[Stub]) -> None:
    settings = Settings("/m", arguments={"dtype": "float32"}, pictures=2, max_tokens=9, seed=3)
    engine = VllmEngine(settings)
    assert stub.made == settings.engine_arguments and stub.made["mm_processor_cache_gb"] == 0
    engine.begin("clip.7", Request("Fill in.", pictures=(PICTURE,), schema=SCHEMA))
    engine.begin("clip.8", Request("Fuse.", again=1))
    (name, said, first), (again, _, second) = engine._llm.asked
    assert (name, again) == ("clip.7", "clip.8") and said[0]["content"][-1] == {"type": "text", "text": "Fill in."}
    assert first == {
        "temperature": 0.0,
        "seed": 3,
        "max_tokens": 9,
        "top_p": 0.8,
        "structured_outputs": ("by", SCHEMA),
    }
    assert (second["seed"], second["temperature"]) == (4, 0.5) and "structured_outputs" not in second
    assert engine.step() == [Done("clip.7", "A man.", "stop", 3, 2)]


def test_what_it_refuses_is_the_clip_s_and_what_it_dies_of_is_not(stub: type[Stub]) -> None:
    engine = VllmEngine(Settings("/m"))
    engine._llm.raises = ValueError("the prompt has 9000 tokens,\nmore than 4096")
    with pytest.raises(Refused, match="ValueError: the prompt has 9000 tokens, more than 4096"):
        engine.begin("a.1", Request("x"))
    for error in (DeadError("gone"), RuntimeError("CUDA error")):
        engine._llm.raises = error
        with pytest.raises(type(error)):
            engine.begin("a.2", Request("x"))
    engine._llm.raises = None
    engine.begin("a.3", Request("x"))
    assert [name for name, *_ in engine._llm.asked] == ["a.3"], "a name that was not used is not the next one's"


def test_a_model_that_does_not_load_is_a_line(stub: type[Stub], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Stub, "cannot", RuntimeError("CUDA out of memory.\nTried to allocate"))
    with pytest.raises(UserError, match=r"vLLM cannot load /m \(RuntimeError: CUDA out of memory. Tried to allocate\)"):
        VllmEngine(Settings("/m"))


def test_pictures_are_decoded_before_the_text_is_said() -> None:
    system, user = messages(Request("Describe.", "Be exact.", (PICTURE, PICTURE)))
    assert system == {"role": "system", "content": "Be exact."}
    assert [part["type"] for part in user["content"]] == ["image_pil", "image_pil", "text"]
    picture = user["content"][0]["image_pil"]
    assert picture.size == (16, 8) and picture.getpixel((3, 3))[2] > 200, "red, green, blue"
    assert messages(Request("Fuse.")) == [{"role": "user", "content": "Fuse."}]
