"""The captioning stage beside vLLM driven bare: one engine, one process, the same requests, by turns.

    python -m bench.caption.offline MODEL OUT.json ENGINE_ARGS GPUS CLIPS ROUNDS CONCURRENCY

Run by the Python of vLLM's environment. Bare is vLLM's own `LLM.chat` over all of a round's requests at once. Answers a
second are compared, and not captions: an answer of random weights is asked for twice.
"""

from __future__ import annotations

import json
import statistics
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from curation.caption import prompts
from curation.caption.base import Asked
from curation.caption.offline.base import Done, Settings
from curation.caption.offline.captioner import Offline
from curation.caption.offline.engine import VllmEngine, messages
from curation.caption.prompts import Prompt, Request
from pipelines.stages.caption import CaptionStage
from pipelines.stages.pictures import ClipToCaption, PicturedClips

PROMPT = Prompt("free", 1, "Describe the clip in one paragraph.")
SIDE = 96
DEFAULTS = {"max_model_len": 4096}


class Shared:
    """An engine that outlives its captioner."""

    def __init__(self, engine: VllmEngine) -> None:
        self._engine = engine

    def begin(self, name: str, request: Request) -> None:
        self._engine.begin(name, request)

    def step(self) -> Sequence[Done]:
        return self._engine.step()

    def close(self) -> None:
        """It is used again."""


def main() -> None:
    model, out, arguments, *numbers = sys.argv[1:]
    gpus, clips, rounds, concurrency = float(numbers[0]), *map(int, numbers[1:])
    given = DEFAULTS | {"max_num_seqs": concurrency} | json.loads(arguments)
    settings = Settings(model, arguments=given, max_tokens=64, concurrency=concurrency, gpus=gpus)
    engine = VllmEngine(settings)
    asked = list(_clips(clips))
    figures: dict[str, list[float]] = {"ours": [], "bare": []}
    for number in range(rounds + 1):
        for name, work in (("ours", _ours), ("bare", _bare))[:: 1 if number % 2 else -1]:
            rate = work(engine, asked, concurrency)
            if number:  # the first round warms up
                figures[name].append(rate)
        print(f"round {number} of {rounds}", file=sys.stderr, flush=True)
    ratios = [ours / bare for ours, bare in zip(figures["ours"], figures["bare"], strict=True)]
    found: dict[str, Any] = {name: statistics.median(rates) for name, rates in figures.items()}
    found |= {"ratio": statistics.median(ratios), "ratios": ratios, "clips": clips, "rounds": rounds}
    found |= {"concurrency": concurrency, "model": Path(model).name, "device": "a GPU" if gpus else "a processor"}
    Path(out).write_text(json.dumps(found))
    engine.close()


def _clips(many: int) -> Iterator[Asked]:
    """Clips of noise, each of another."""
    draw = np.random.default_rng(0)
    for number in range(many):
        frames = draw.integers(0, 256, (3, SIDE * 9 // 16, SIDE, 3), np.uint8)
        yield Asked(f"clip{number:06}", tuple(cv2.imencode(".jpg", frame)[1].tobytes() for frame in frames))


def _ours(engine: VllmEngine, asked: Sequence[Asked], concurrency: int) -> float:
    """Answers a second of the stage, with two items in hand, as a worker has them."""
    stage = CaptionStage("dense", "by", lambda: Offline(lambda: Shared(engine), PROMPT, concurrency))()
    half = len(asked) // 2
    requests: list[int] = []

    def work(some: Sequence[Asked]) -> None:
        item = PicturedClips(tuple(ClipToCaption(one.clip_id, "v") for one in some), tuple(some))
        for result in stage.stream(item, lambda what, done: None):
            assert result.rows is not None
            requests.extend(json.loads(detail)["requests"] for detail in result.rows["detail"].to_pylist())

    began = time.perf_counter()
    threads = [threading.Thread(target=work, args=(some,)) for some in (asked[:half], asked[half:])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    taken = time.perf_counter() - began
    stage.close()
    assert len(requests) == len(asked), "a clip has no result"
    return sum(requests) / taken


def _bare(engine: VllmEngine, asked: Sequence[Asked], concurrency: int) -> float:
    """Answers a second of vLLM's own loop, in a thread of its own as the captioner's is: on a processor the main thread
    is bound to cores, and slower beside others.
    """
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(_chat, engine, asked).result()


def _chat(engine: VllmEngine, asked: Sequence[Asked]) -> float:
    requests = [prompts.first(PROMPT, one) for one in asked]
    began = time.perf_counter()
    engine._llm.request_counter = iter(map(str, range(len(requests))))  # type: ignore[assignment]
    found = engine._llm.chat([messages(one) for one in requests], engine._parameters(requests[0]), use_tqdm=False)
    taken = time.perf_counter() - began
    engine._llm.request_counter = engine._names
    assert len(found) == len(requests)
    return len(requests) / taken


if __name__ == "__main__":
    main()
