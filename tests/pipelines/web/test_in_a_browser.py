"""The page in a browser (headless Chromium): films play, bounds are dragged, nothing serious for a screen reader."""

from __future__ import annotations

import shutil
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("playwright")

import uvicorn
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect, sync_playwright

from curation.inputs.roots import Roots
from pipelines.api.app import create
from pipelines.api.served import Served, Settings
from pipelines.commands.jobs.of_pyramid import PYRAMID
from pipelines.web import pages
from tests.support import ray_jobs, run_folder
from tests.support.service import GROUP

CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium here; apt install chromium")


@pytest.fixture
def address(served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A service on loopback with a root, a training run in it and a Ray job server; the link that opens it."""
    run_folder.written(tmp_path / "data" / "run")
    ray = ray_jobs.Client()
    ray.add("one", "RUNNING")
    ray.found["one"].metadata = {PYRAMID: served.uri}
    settings = Settings(
        hosts=("127.0.0.1",),
        roots=Roots.of([str(tmp_path / "data")]),
        ray=lambda: ray_jobs.server(monkeypatch, ray),
        group=GROUP,
    )
    held = Served(served.pyramid(), settings)
    app = create(held)
    pages.mount(app)
    bound = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run, args=([bound],))
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{bound.getsockname()[1]}/enter?key={held.sessions.link()}"
    server.should_exit = True
    thread.join()


@pytest.fixture
def page(address: str) -> Iterator[Page]:
    """The grid, in a browser that tells what goes wrong in it."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        wrong: list[str] = []
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda told: wrong.append(told.text) if told.type == "error" else None)
        page.goto(address)
        yield page
        browser.close()
        assert not wrong


def until(page: Page, test: str) -> None:
    """Wait until an expression holds; Playwright's own way makes code of text in the page, which may not."""
    ends = time.monotonic() + 30
    while not page.evaluate(test):
        assert time.monotonic() < ends, test
        time.sleep(0.02)


def number(page: Page) -> int:
    return int((page.locator(".total").inner_text()).split(" clips")[0].replace(",", ""))


def test_a_film_plays_where_one_looks_and_no_other_is_fetched(page: Page) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if request.url.endswith("/video") else None)
    cards = page.locator(".card[data-film]")
    assert cards.count() == 10 and page.locator("video").count() == 0
    cards.nth(1).hover()
    film = cards.nth(1).locator("video")
    expect(film).to_have_count(1)
    until(page, "document.querySelector('video').currentTime > 0.1")
    page.mouse.move(1, 1)
    expect(page.locator("video")).to_have_count(0)
    assert len({*asked}) == 1
    cards.nth(3).locator("a").focus()
    expect(cards.nth(3).locator("video")).to_have_count(1)
    cards.nth(4).locator("a").focus()
    expect(cards.nth(3).locator("video")).to_have_count(0)


def test_a_bound_that_is_dragged_changes_the_numbers_and_the_address(page: Page) -> None:
    page.goto(page.url + "?tier=moving")
    before = number(page)
    assert before == 9
    handle = page.locator("input.low[aria-label='motion, at least']")
    box = handle.bounding_box()
    assert box is not None
    share = handle.evaluate("it => (it.value - it.min) / (it.max - it.min)")
    page.mouse.move(box["x"] + 7 + share * (box["width"] - 14), box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.7, box["y"] + box["height"] / 2, steps=5)
    page.mouse.up()
    page.wait_for_url("**motion=*")
    until(page, "!document.querySelector('.htmx-request')")
    after = number(page)
    assert 0 < after < before, page.locator("#found").inner_text()[:600] + page.url
    assert page.locator(".card").count() == after
    assert f"{after - before:+,}" in page.locator("tr.step", has_text="moving").inner_text()
    address = page.url
    page.goto(address)
    assert number(page) == after, "the address has all that is looked at"
    page.get_by_role("button", name="Save these bounds").click()
    page.wait_for_url("**/?tier=moving")
    assert number(page) == after


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_serious_stands_in_the_way_of_anybody(page: Page, tmp_path: Path, scheme: str) -> None:
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    home = page.url
    first = page.locator(".card a").first.get_attribute("href")
    run = f"training/run?folder={tmp_path}/data/run"
    for path in (
        "?tier=moving",
        "near?column=motion&side=low&motion=1..",
        "videos",
        "runs",
        "copies",
        "manifests",
        "jobs",
        "jobs/one",
        "exports",
        "training",
        run,
        (first or "")[1:],
    ):
        page.goto(home + path)
        page.evaluate("document.querySelectorAll('details').forEach((one) => (one.open = true))")
        found = Axe().run(page).response["violations"]
        serious = [one for one in found if one["impact"] in ("serious", "critical")]
        assert not serious, [(one["id"], [node["html"] for node in one["nodes"]][:3]) for one in serious]


def test_a_phone_s_width_shows_all_without_scrolling_sideways(page: Page, tmp_path: Path) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    home, run = page.url, f"training/run?folder={tmp_path}/data/run"
    for path in ("?tier=moving", "videos", "runs", "jobs", "jobs/one", "exports", "training", run):
        page.goto(home + path)
        page.evaluate("document.querySelectorAll('details').forEach((one) => (one.open = true))")
        assert page.evaluate("document.documentElement.scrollWidth") <= 360, path


def test_by_keyboard_alone_one_reaches_a_clip(page: Page) -> None:
    page.keyboard.press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    handle = page.locator("input.low[aria-label='motion, at least']")
    handle.focus()
    before = number(page)
    for _ in range(100):
        page.keyboard.press("ArrowRight")
    page.keyboard.press("Tab")
    page.wait_for_url("**motion=*")
    until(page, "!document.querySelector('.htmx-request')")
    assert number(page) < before
    page.locator(".card a").first.focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**/clips/*")
    assert page.locator("video").count() == 1


def test_keys_decide_on_the_clip_that_has_the_focus(page: Page, served: Served) -> None:
    clips = page.locator(".card")
    first, second = (clips.nth(at).get_attribute("data-clip") for at in (0, 1))

    def stands(clip: str | None) -> tuple[str | None, str | None]:
        row = served.pyramid().query().where(clip_id=clip).to_table().to_pylist()[0]
        return row["decision"], row["tagged"]

    said = page.get_by_role("status").filter(has_text="clips dropped")
    page.keyboard.press("d")
    clips.nth(0).locator(".picture").focus()
    page.keyboard.press("ArrowRight")
    expect(clips.nth(1).locator(".picture")).to_be_focused()
    page.keyboard.press("d")
    expect(said).to_contain_text("1 clips dropped by")
    expect(clips.nth(1).get_by_role("button", name="Drop")).to_have_attribute("aria-pressed", "true")
    expect(clips.nth(1).locator(".picture")).to_be_focused()
    assert (stands(first), stands(second)) == ((None, None), ("drop", None)), "of the clip with the focus alone"
    page.keyboard.press("u")
    expect(page.locator("#said")).to_contain_text("undecided again")
    page.keyboard.press("t")
    page.keyboard.type("kdut, day")
    page.keyboard.press("Enter")
    expect(clips.nth(1).locator(".tags")).to_have_text("day kdut")
    assert stands(second) == (None, "day,kdut"), "letters that are typed decide nothing"
    page.locator("#keys").uncheck()
    clips.nth(1).locator(".picture").focus()
    page.keyboard.press("k")
    page.goto(page.url + f"clips/{second}")
    page.keyboard.press("k")
    page.locator("#keys").check()
    page.keyboard.press("d")
    expect(page.locator("#said")).to_contain_text("dropped")
    assert stands(second) == ("drop", "day,kdut"), "keys that were turned off stay so"
    page.keyboard.press("t")
    page.keyboard.type("-day")
    page.keyboard.press("Enter")
    expect(page.locator(".tags")).to_have_text("kdut")


def test_what_is_refused_is_said(page: Page) -> None:
    answer = (
        "{ statusText: 'x', responseText: JSON.stringify({ detail: 'it is no decision', remedy: 'keep or drop' }) }"
    )
    event = f"new CustomEvent('htmx:responseError', {{ detail: {{ xhr: {answer} }} }})"
    page.evaluate(f"document.dispatchEvent({event})")
    expect(page.locator("#said")).to_have_text("it is no decision; keep or drop")
