"""Captions as a user has them made: from the recipe, by an endpoint on this machine, into a pyramid; and what a second
run, a budget, a kill, a failing endpoint and a given caption come to.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from curation.caption.pictures import reduced
from curation.pyramid.store import Pyramid
from pipelines.config import promptfile
from pipelines.config.recipe import parsed
from tests.support import chat, face, jobs, media, without_ray

CLIPS = 5
BLOCK = """
[[captions]]
name = "{name}"
tier = "{tier}"
model = "tiny-vlm"
endpoint = "{url}"
key_env = "TEST_VLM_KEY"
concurrency = 3
timeout_s = 5.0
{more}
"""


def recipe(folder: Path, *blocks: str) -> str:
    return jobs.recipe(folder, jobs.WITHOUT_TEXT + "".join(blocks))


def block(url: str, more: str = "", name: str = "dense", tier: str = "all") -> str:
    return BLOCK.format(url=url, more=more, name=name, tier=tier)


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Videos and a pyramid of them whose recipe has no captions."""
    folder = tmp_path_factory.mktemp("bare")
    (folder / "videos").mkdir()
    media.scenes(folder / "videos" / "a.mp4", (2.5, 3), sources=("testsrc2", "mandelbrot"), crf=28)
    media.scenes(folder / "videos" / "b.mp4", (2.5, 3), sources=("smptebars", "gradients"), crf=28)
    media.scenes(folder / "videos" / "c.mp4", (3,), sources=("mandelbrot",), crf=30)
    done = without_ray.curate(folder / "videos", folder / "p", recipe(folder))
    assert done.summary["clips"] == CLIPS
    return folder


@pytest.fixture
def here(bare: Path, tmp_path: Path) -> Path:
    """A copy of them."""
    shutil.copytree(bare / "p", tmp_path / "p")
    (tmp_path / "videos").symlink_to(bare / "videos")
    return tmp_path


def adopt(here: Path, *blocks: str) -> None:
    """Let the pyramid keep a recipe with these blocks, as `--replace-recipe` does."""
    text = Path(recipe(here, *blocks)).read_text()
    read = parsed(text, "test")
    Pyramid.open(here / "p").with_recipe(read.name, text, read.pyramid_tiers)


def caption(here: Path, *arguments: str, code: int = 0) -> jobs.Finished:
    """`ziggurat caption`, seen to its end with `code`."""
    process = jobs.start("caption", str(here / "p"), *arguments, "--json", code=_HASTY, TEST_VLM_KEY=chat.KEY)
    done = jobs.finish(process)
    assert done.code == code, done.error
    return done


def clips(here: Path) -> dict[str, dict[str, Any]]:
    columns = ["clip_id", "video_id", "caption", "caption_by", "caption_why"]
    return {row["clip_id"]: row for row in Pyramid.open(here / "p").dataset("clips").to_table(columns).to_pylist()}


def rows(here: Path) -> list[dict[str, Any]]:
    return Pyramid.open(here / "p").dataset("captions").to_table().to_pylist()


def files(here: Path) -> dict[str, str]:
    """What the endpoint calls the pictures of each clip."""
    pyramid = Pyramid.open(here / "p")
    return {name: chat.name_of(_sent(frames)) for name, frames in pyramid.samples(list(clips(here)))}


def _sent(frames: list[bytes]) -> list[bytes]:
    pictures = (cv2.imdecode(np.frombuffer(one, np.uint8), cv2.IMREAD_COLOR) for one in frames)
    return [reduced(one, 640) for one in pictures if one is not None]


def test_curate_has_each_clip_captioned_after_cutting_and_a_second_run_none(bare: Path, tmp_path: Path) -> None:
    (tmp_path / "videos").symlink_to(bare / "videos")
    with chat.served(chat.Endpoint(key=chat.KEY)) as endpoint:
        endpoint.misdeeds = [chat.shuffles(1)]
        made = recipe(tmp_path, block(endpoint.url, "usd_per_million_in = 1.0\nusd_per_million_out = 10.0"))
        first = without_ray.curate(tmp_path / "videos", tmp_path / "p", made, TEST_VLM_KEY=chat.KEY)
        again = without_ray.curate(tmp_path / "videos", tmp_path / "p", made, TEST_VLM_KEY=chat.KEY)
        asked = len(endpoint.bodies)
    assert (first.summary["captioned"], first.summary["cut"]) == ({"dense": CLIPS}, CLIPS)
    assert first.summary["caption_tokens"] == {"in": 200 * CLIPS, "out": 40 * CLIPS}
    assert first.summary["caption_usd"] == pytest.approx(CLIPS * (200 * 1.0 + 40 * 10.0) / 1e6)
    assert again.summary["captioned"] == {} and asked == 2 * CLIPS and endpoint.most_at_once <= 3
    called, told = files(tmp_path), rows(tmp_path)
    assert {name: row["caption"] for name, row in clips(tmp_path).items()} == {
        name: f"A clip called {picture} lies in the sun." for name, picture in called.items()
    }
    makers = {row["caption_by"] for row in clips(tmp_path).values()}
    assert len(makers) == 1 and makers.pop().startswith("dense/tiny-vlm/")
    assert Counter(row["clip_id"] for row in told) == Counter(called.keys())
    for row in told:
        detail = json.loads(row["detail"])
        assert detail["short"] == f"{called[row['clip_id']]} in short." and row["made_at"] is not None
        assert list(detail["fields"])[:2] == ["subjects", "actions"]
        assert (detail["finish_reason"], detail["tokens_in"], detail["tokens_out"]) == ("stop", 200, 40)
    _no_key(tmp_path, first, again)


def _no_key(here: Path, *runs: jobs.Finished) -> None:
    """The key is in nothing that a run has written or said."""
    for run in runs:
        assert chat.KEY not in run.error + json.dumps(run.events)
    for path in here.rglob("*"):
        if path.is_file() and "videos" not in path.parts:
            assert chat.KEY.encode() not in path.read_bytes(), path


def test_a_worker_of_ray_s_has_them_made(here: Path) -> None:
    with chat.served(chat.Endpoint(key=chat.KEY)) as endpoint:
        adopt(here, block(endpoint.url, "budget_tokens = 400\nmax_tokens = 30"))
        arguments = ("caption", str(here / "p"), "--cpus", jobs.CPUS, "--json")
        first = jobs.run(*arguments, TEST_VLM_KEY=chat.KEY)
        assert first.code == 1, first.error
        adopt(here, block(endpoint.url))
        second = jobs.run(*arguments, TEST_VLM_KEY=chat.KEY)
        assert second.code == 0, second.error
    assert first.summary["captions_left"] == {"dense": CLIPS - first.summary["captioned"]["dense"]}
    called = files(here)
    assert {name: row["caption"] for name, row in clips(here).items()} == {
        name: f"A clip called {picture} lies in the sun." for name, picture in called.items()
    }
    _no_key(here, first, second)


def test_another_revision_makes_them_anew_and_keeps_the_earlier_ones(here: Path) -> None:
    with chat.served() as endpoint:
        adopt(here, block(endpoint.url))
        first = caption(here)
        before = clips(here)
        endpoint.say = lambda name: f"Another text of {name}."
        adopt(here, block(endpoint.url, 'revision = "2"'))
        anew = caption(here)
        adopt(here, block(endpoint.url.replace("127.0.0.1", "localhost"), 'revision = "2"\nbudget_tokens = 5000'))
        moved = caption(here)
    assert first.summary["captioned"] == anew.summary["captioned"] == {"dense": CLIPS}
    assert moved.summary["captioned"] == {}, "another address makes no other captions"
    after = clips(here)
    assert all(row["caption"].startswith("Another text") for row in after.values())
    assert all(after[name]["caption_by"] != before[name]["caption_by"] for name in before)
    kept = {(row["clip_id"], row["caption"]) for row in rows(here)}
    assert kept == {(row["clip_id"], row["caption"]) for row in (*before.values(), *after.values())}
    assert len(rows(here)) == 2 * CLIPS


def test_the_last_block_s_caption_is_in_force_and_no_block_asks_twice(here: Path) -> None:
    with chat.served() as endpoint:
        blocks = (block(endpoint.url), block(endpoint.url, "cues = true", name="fine", tier="moving"))
        to = ("--recipe", recipe(here, *blocks), "--replace-recipe", "--json")
        first = without_ray.run("curate", str(here / "p"), "--fill", *to, TEST_VLM_KEY="k")
        again = caption(here)
        only = caption(here, "fine")
    moving = first.summary["tiers"]["moving"]
    assert 0 < moving < CLIPS
    assert first.summary["captioned"] == {"dense": CLIPS, "fine": moving}
    assert again.summary["captioned"] == only.summary["captioned"] == {}
    assert Counter(row["caption_by"].partition("/")[0] for row in clips(here).values()) == {
        "fine": moving,
        "dense": CLIPS - moving,
    }
    cued = [chat.text_of(body) for body in endpoint.bodies if "motion score" in chat.text_of(body)]
    assert len(cued) == moving and all("The clip lasts" in text for text in cued)


def test_a_budget_ends_a_run_with_1_and_the_next_one_goes_on(here: Path) -> None:
    with chat.served() as endpoint:
        adopt(here, block(endpoint.url, "budget_tokens = 620\nmax_tokens = 30"))
        first = caption(here, code=1)
        done = first.summary["captioned"]["dense"]
        second = caption(here, code=1)
        third = caption(here)
    assert first.summary["captions_left"] == {"dense": CLIPS - done} and first.summary["exit"] == 1
    assert first.summary["losses"] == {}
    assert sum(first.summary["caption_tokens"].values()) <= 620
    total = done + second.summary["captioned"]["dense"] + third.summary["captioned"].get("dense", 0)
    assert total == CLIPS and third.summary["captions_left"] == {}
    assert all(row["caption"] for row in clips(here).values()) and len(rows(here)) == CLIPS


def test_a_limit_takes_so_many_and_leaves_nothing_undone(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with chat.served() as endpoint:
        adopt(here, block(endpoint.url))
        assert caption(here, "dense", "--limit", "2").summary["captioned"] == {"dense": 2}
        assert caption(here).summary["captioned"] == {"dense": CLIPS - 2}
    assert len(endpoint.asked) == CLIPS
    assert "no [[captions]] called 'fine'; it has dense" in face.refused(capsys, "caption", str(here / "p"), "fine")


def test_what_a_model_says_in_vain_waits_for_retry_and_what_the_network_lost_does_not(here: Path) -> None:
    called = files(here)
    (loops, fails, *fine) = sorted(called)
    again = "The man walks to the door. The man walks to the door."
    with chat.served() as endpoint:
        endpoint.misdeeds = [
            chat.on(called[loops], chat.says(json.dumps(dict.fromkeys(_aspects(), again)))),
            chat.on(called[fails], chat.status(400)),
        ]
        adopt(here, block(endpoint.url))
        first = caption(here, code=1)
        endpoint.misdeeds = [chat.on(called[fails], chat.raw(b"{"))]
        second = caption(here)
        retried = caption(here, "--retry", code=1)
        endpoint.misdeeds = []
        last = caption(here)
    assert first.summary["not_captioned"] == {"dense: caption_loops": 1}
    assert first.summary["losses"] == {"captions: dense: request_refused": 1}
    assert second.summary["captioned"] == {} == second.summary["captions_lost"], "both wait for --retry"
    assert retried.summary["captioned"] == {"dense": 1}
    assert retried.summary["losses"] == {"captions: dense: unreadable": 1}
    assert last.summary["captioned"] == {"dense": 1}, "what the network lost is tried again unasked"
    assert all(row["caption"] and row["caption_why"] is None for row in clips(here).values())
    assert set(fine) <= {row["clip_id"] for row in rows(here)}


def _aspects() -> tuple[str, ...]:
    return tuple(aspect.name for aspect in promptfile.load("six-aspects").aspects)


def test_equal_captions_on_different_clips_are_counted(here: Path) -> None:
    with chat.served(chat.Endpoint(say=lambda name: "A man walks.")) as endpoint:
        adopt(here, block(endpoint.url))
        done = caption(here)
    assert done.summary["captions_equal"] == {"dense": CLIPS} and done.summary["commonest_caption"] == CLIPS


def test_given_captions_give_way_or_are_left_alone(bare: Path, tmp_path: Path) -> None:
    (tmp_path / "videos").symlink_to(bare / "videos")
    listed = tmp_path / "list.csv"
    listed.write_text(f"path,caption\n{bare}/videos/a.mp4,A given one.\n{bare}/videos/c.mp4,\n")
    with chat.served() as endpoint:
        kept = recipe(tmp_path, block(endpoint.url, 'given = "keep"'))
        first = without_ray.curate(listed, tmp_path / "p", kept, TEST_VLM_KEY="k")
        assert first.summary["captioned"] == {"dense": 1}
        assert Counter(row["caption_by"].partition("/")[0] for row in clips(tmp_path).values()) == {
            "given": 2,
            "dense": 1,
        }
        adopt(tmp_path, block(endpoint.url))
        second = caption(tmp_path)
    assert second.summary["captioned"] == {"dense": 2}, "what was captioned before counts: `given` is no part of it"
    assert {row["caption_by"].partition("/")[0] for row in clips(tmp_path).values()} == {"dense"}
    assert sum(row["by"] == "given" for row in rows(tmp_path)) == 2


@pytest.mark.parametrize(
    ("more", "key", "told"),
    [
        (
            "",
            "",
            "the environment variable TEST_VLM_KEY, which the recipe names for the key of an endpoint, is not set",
        ),
        ('prompt = "nothing"', chat.KEY, "no prompt 'nothing'; give a .toml file or one of six-aspects"),
        ("", "sk-another-secret", "refuses the key (HTTP 401)"),
        ('revision = "other-model"', chat.KEY, "has no model 'tiny-vlm'; it has other"),
    ],
)
def test_a_wrong_set_up_ends_the_command_before_any_clip(
    here: Path, more: str, key: str, told: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before, models = clips(here), ("other",) if "other-model" in more else (chat.MODEL,)
    monkeypatch.setenv("TEST_VLM_KEY", key)
    with chat.served(chat.Endpoint(key=chat.KEY, models=models)) as endpoint:
        adopt(here, block(endpoint.url, more))
        said = face.refused(capsys, "caption", str(here / "p"))
    assert told in said and chat.KEY not in said and "sk-another-secret" not in said
    assert endpoint.bodies == [] and clips(here) == before


def test_an_endpoint_that_is_not_there_is_one_line(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_VLM_KEY", chat.KEY)
    assert "makes no captions; add [[captions]]" in face.refused(capsys, "caption", str(here / "p"))
    with chat.served() as endpoint:
        adopt(here, block(endpoint.url))
    assert f"the endpoint {endpoint.url} does not answer" in face.refused(capsys, "caption", str(here / "p"))


def test_a_kill_loses_what_is_in_the_air_and_no_caption_is_paid_twice(here: Path) -> None:
    with chat.served() as endpoint:
        seen: list[str] = []
        reached = threading.Event()

        def hold(handler: chat.Handler, body: chat.Body) -> bool:
            """The third clip's answer never comes."""
            if chat.pictures(body) and len(seen) >= 2:
                reached.set()
                return chat.hangs(handler, body)
            seen.extend([chat.told(body)] if chat.pictures(body) else [])
            return False

        endpoint.misdeeds = [hold]
        slow = block(endpoint.url, "").replace("concurrency = 3", "concurrency = 1").replace("5.0", "60.0")
        adopt(here, slow)
        process = jobs.start("caption", str(here / "p"), code=_HASTY, TEST_VLM_KEY=chat.KEY)
        assert reached.wait(120)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        endpoint.misdeeds = []
        asked = len(endpoint.asked)
        done = caption(here)
        assert done.summary["captioned"] == {"dense": CLIPS - 2}
        assert len(endpoint.asked) - asked == CLIPS - 2
    assert all(row["caption"] for row in clips(here).values())
    assert Counter(row["clip_id"] for row in rows(here)) == Counter(list(clips(here)))


_HASTY = """
from tests.support import without_ray
from curation.caption import transport
from pipelines.stages import caption
caption.HOLD_CLIPS = 1
transport._FIRST_S = 0.01
without_ray.main()
"""
"""`ziggurat` without Ray, which writes each answer down at once and does not wait long before it tries again."""
