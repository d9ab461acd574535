"""A captioning worker whose engine dies: another one takes its clips up, none is lost, none is captioned twice, and no
caption is another clip's; a clip that every engine dies of ends as lost, alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from curation.caption.base import Asked
from curation.caption.offline.captioner import Offline
from curation.caption.prompts import Aspect, Prompt
from curation.errors import WorkerSpentError
from pipelines.execution.attempts import Attempts
from pipelines.execution.coordinator import Coordinator, Heartbeat
from pipelines.progress.stalls import Stalls
from pipelines.stages.caption import CaptionStage
from pipelines.stages.pictures import ClipToCaption, PicturedClips
from tests.pipelines.stages.test_caption import told
from tests.support.chat import name_of
from tests.support.engine import Engine

PROMPT = Prompt("fields", 1, "Fill in.", "", (Aspect("subjects", "who"),), "Fuse:")


def item(names: str) -> PicturedClips:
    clips = tuple(ClipToCaption(name, f"video of {name}") for name in names)
    return PicturedClips(clips, tuple(Asked(name, (name.encode(),)) for name in names))


def outcome(names: str, engine: Callable[[], Engine], attempts: int = 3) -> dict[str, tuple[str | None, str | None]]:
    """What becomes of each clip where a worker whose engine is lost is replaced, and its item begun again."""
    coordinator = Coordinator(attempts)
    for _ in range(50):
        settings = CaptionStage("dense", "dense/m/1", lambda: Offline(engine, PROMPT, 3))
        stage = settings()
        try:
            return told(Attempts(stage, coordinator, attempts, settings.give_up, None)("key", item(names), quiet))
        except WorkerSpentError:
            continue
        finally:
            stage.close()
    raise AssertionError("it is tried without end")


def quiet(item: str, frames: int) -> None:
    pass


def right(names: Sequence[str]) -> dict[str, tuple[str | None, str | None]]:
    return {name: (f"A clip called {name_of((name.encode(),))} lies in the sun.", None) for name in names}


def test_clips_of_an_engine_that_dies_in_the_midst_are_captioned_by_the_next_one() -> None:
    made: list[Engine] = []

    def engine() -> Engine:
        made.append(Engine(len(made), at_a_step=2, dies_at=None if len(made) == 2 else 4))
        return made[-1]

    assert outcome("abcdefghij", engine) == right("abcdefghij")
    assert len(made) == 3 and all(one.is_closed for one in made)


def test_a_clip_that_every_engine_dies_of_is_lost_alone() -> None:
    deadly = frozenset({name_of((b"c",))})
    found = outcome("abcdef", lambda: Engine(at_a_step=2, kills=deadly), attempts=2)
    assert found == right("abdef") | {"c": (None, "worker_lost")}


def test_an_engine_that_hangs_is_named_by_the_watchdog() -> None:
    """What the stage reports while nothing comes is a standstill to whoever watches."""
    now = [0.0]
    stalls = Stalls("caption dense", 60.0, lambda: now[0])
    beat = Heartbeat("caption dense", "dense: 9 clips", 4, 0.0, 0.0)
    assert stalls.look([beat], 0) is None
    now[0] = 61.0
    assert stalls.look([beat], 0) == (
        "stage caption dense has made no progress for 61 s (dense: 9 clips at frame 4); it goes on"
    )
