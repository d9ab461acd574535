"""Promise P19: what a decoder that is taken over tries is refused, and it still decodes. Acted inside a real child."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from curation.errors import UserError
from curation.media.plan import Limits, MediaPlan
from curation.media.sandbox import decoder, faults
from curation.media.sandbox.cell import confine
from curation.media.sandbox.cell.confine import Level
from curation.media.sandbox.protocol import Setup
from curation.media.sandbox.sandbox import Sandbox
from tests.support import media

ROOT = Path(__file__).parents[4]
LIMITS = Limits(silence_s=60, memory_mb=1024)

FILES = pytest.mark.skipif(not confine.level().landlock, reason="this kernel has no Landlock: files are not tested")
CALLS = pytest.mark.skipif(
    not confine.level().seccomp, reason="this kernel has no seccomp filter: calls are not tested"
)


@pytest.fixture(scope="module")
def child() -> Iterator[decoder.Decoder]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(faults.SWITCH, "1")
        started = decoder.Decoder(Setup(os.getpid(), 1024, LIMITS.max_pixels, detector="scene"))
    yield started
    started.kill()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Another video's folder, as staging makes it, and a neighbour's file in it that must stay as it is."""
    (tmp_path / "raw").write_bytes(b"a neighbour")
    return tmp_path


def acted(child: decoder.Decoder, act: str, to: Any = None) -> str:
    (answer,) = child.ask("act", {"name": act, "act": act, "to": to}, LIMITS, lambda frames: None)
    assert answer.kind == "acted", answer
    return answer.body


def decodes(child: decoder.Decoder) -> bool:
    path = media.sample("plain.mp4")
    body = {"name": path.name, "plan": {}, "max_pixels": LIMITS.max_pixels, "image_pixels": 0}
    with path.open("rb") as file:
        kinds = [answer.kind for answer in child.ask("measure", body, LIMITS, lambda frames: None, file.fileno())]
    return "clip" in kinds and "verdict" not in kinds


def test_a_full_level_is_reached_where_the_kernel_has_it(child: decoder.Decoder) -> None:
    """Also fails where a library starts a thread as it loads: Landlock would not bind that one."""
    assert child.level == confine.level()


@FILES
@pytest.mark.parametrize("path", ["/etc/passwd", "/etc/hostname", "/proc/self/environ", "/dev/null", str(Path.home())])
def test_it_opens_no_file_of_the_machine(child: decoder.Decoder, path: str) -> None:
    assert acted(child, "read", path).startswith("refused: Permission denied")
    assert decodes(child)


@FILES
def test_it_opens_neither_its_parents_environment_nor_another_video(child: decoder.Decoder, folder: Path) -> None:
    (folder / "link").symlink_to(media.sample("scenes.mp4"))
    for path in (f"/proc/{os.getpid()}/environ", f"/proc/{os.getpid()}/mem", folder / "raw", folder / "link"):
        assert acted(child, "read", str(path)).startswith("refused: Permission denied"), path
    assert acted(child, "list", str(folder)).startswith("refused: Permission denied")
    assert decodes(child)


@FILES
def test_it_reads_only_libraries(child: decoder.Decoder) -> None:
    assert acted(child, "read", os.__file__) == "done"
    assert acted(child, "read", faults.__file__) == "done"
    assert acted(child, "read", __file__).startswith("refused")


@pytest.mark.skipif(not confine.level().holds, reason="this kernel lacks Landlock or seccomp: writing is not tested")
def test_it_changes_no_file(child: decoder.Decoder, folder: Path) -> None:
    raw, new = str(folder / "raw"), str(folder / "new")
    acts: list[tuple[str, Any]] = [
        ("create", new),
        ("overwrite", raw),
        ("remove", raw),
        ("rename", [raw, new]),
        ("link", [raw, new]),
        ("truncate", raw),
        ("mode", raw),
        ("folder", new),
        ("create", "/dev/shm/ziggurat-act"),
        ("overwrite", "/dev/null"),
    ]
    for act, to in acts:
        assert acted(child, act, to).startswith("refused"), act
    assert os.listdir(folder) == ["raw"]
    assert (folder / "raw").read_bytes() == b"a neighbour"
    assert decodes(child)


@pytest.fixture(params=["AF_INET", "AF_INET6", "AF_UNIX", "abstract"])
def listener(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, Any, socket.socket]]:
    """Somebody who listens on this machine: (family, address, the listening socket)."""
    family = "AF_UNIX" if request.param == "abstract" else request.param
    places: dict[str, Any] = {
        "AF_INET": ["127.0.0.1", 0],
        "AF_INET6": ["::1", 0],
        "AF_UNIX": str(tmp_path / "listener"),
        "abstract": f"\0ziggurat-{os.getpid()}",
    }
    with socket.socket(getattr(socket, family), socket.SOCK_STREAM) as server:
        place = places[request.param]
        try:
            server.bind(place if isinstance(place, str) else tuple(place))
        except OSError as error:
            pytest.skip(f"nobody can listen on {request.param} here: {error}")
        server.listen()
        server.settimeout(0.2)
        name = server.getsockname()
        yield family, name.decode() if isinstance(name, bytes) else name, server


@CALLS
def test_it_reaches_no_listener(child: decoder.Decoder, listener: tuple[str, Any, socket.socket]) -> None:
    family, address, server = listener
    assert acted(child, "connect", [family, address]) == "refused: Operation not permitted"
    with pytest.raises(TimeoutError):
        server.accept()
    assert acted(child, "listen", ["127.0.0.1", 0]) == "refused: Operation not permitted"
    assert decodes(child)


@CALLS
@pytest.mark.parametrize(
    ("act", "to"),
    [
        ("signal", os.getpid()),
        ("signal", 1),
        ("fork", None),
        ("execute", "/bin/true"),
        ("call", [101, 117, 16, os.getpid(), 0, 0]),  # ptrace: attach
        ("call", [310, 270, os.getpid(), 0, 0, 0, 0, 0]),  # process_vm_readv
        ("call", [234, 131, os.getpid(), os.getpid(), 18]),  # tgkill, the parent
        ("call", [302, 261, os.getpid(), 7, 0, 0]),  # prlimit64 of the parent
        ("call", [425, 425, 1, 0]),  # io_uring_setup
        ("call", [434, 434, os.getpid(), 0]),  # pidfd_open
        ("call", [435, 435, 0, 0]),  # clone3
        ("call", [56, 220, 17, 0, 0, 0, 0]),  # clone, of a process
        ("call", [272, 97, 0x10000000]),  # unshare: a user namespace
        ("call", [165, 40, 0, 0, 0, 0, 0]),  # mount
        ("call", [321, 280, 0, 0, 0]),  # bpf
        ("call", [323, 282, 0]),  # userfaultfd
        ("call", [298, 241, 0, 0, 0, 0, 0]),  # perf_event_open
        ("call", [250, 219, 0, 0, 0, 0, 0]),  # keyctl
        ("call", [319, 279, 0, 0]),  # memfd_create
        ("call", [72, 25, 0, 8, os.getpid()]),  # fcntl: F_SETOWN
        ("call", [157, 167, 4, 1, 0, 0, 0]),  # prctl: PR_SET_DUMPABLE
    ],
    ids=lambda value: value if isinstance(value, str) else "",  # no number of a process: names are the same in any
)
def test_it_reaches_no_process_and_starts_none(child: decoder.Decoder, act: str, to: Any) -> None:
    assert acted(child, act, to) in ("refused: Operation not permitted", "refused: Function not implemented")
    assert psutil.Process(child.process.pid).children() == []


def test_it_still_decodes_after_all_that(child: decoder.Decoder) -> None:
    assert decodes(child)


def test_acts_need_the_switch() -> None:
    started = decoder.Decoder(Setup(os.getpid(), 1024, LIMITS.max_pixels, "pictures"))
    try:
        assert acted(started, "read", "/etc/passwd") == "faults are off"
    finally:
        started.kill()


def test_its_descriptors_are_its_own(child: decoder.Decoder) -> None:
    """None is inherited: its socket, its pipe, what it prints to."""
    held = os.listdir(f"/proc/{child.process.pid}/fd")
    kinds = {os.readlink(f"/proc/{child.process.pid}/fd/{number}").split(":")[0] for number in held}
    assert len(held) <= 6
    assert not [kind for kind in kinds if kind not in ("socket", "pipe") and "deleted" not in kind]


def test_the_end_of_the_thread_that_asked_is_not_its_end() -> None:
    """The kernel ends a child with the thread that started it; a stage may be called by one of a pool."""
    path, found = media.sample("plain.mp4"), []
    with Sandbox(LIMITS) as sandbox:
        for _ in range(2):
            asking = threading.Thread(target=lambda: found.append(sandbox.measure(path, path.name, MediaPlan())))
            asking.start()
            asking.join()
            child = sandbox._child
            assert child is not None and child.process.poll() is None
    assert [measured.verdict for measured in found] == [None, None]


def test_a_child_that_hangs_dies_with_its_parent() -> None:
    """Killed, the parent can close nothing, and a child that hangs reads nothing."""
    code = (
        "import sys; from pathlib import Path; from curation.media.plan import Limits, MediaPlan;"
        "from curation.media.sandbox.sandbox import Sandbox; made = Sandbox(Limits(memory_mb=1024));"
        "path = Path(sys.argv[1]); made.measure(path, 'first.mp4', MediaPlan());"
        "print(made._child.process.pid, flush=True); made.measure(path, 'fault-hang.mp4', MediaPlan())"
    )
    command = [sys.executable, "-c", code, str(media.sample("plain.mp4"))]
    environment = {**os.environ, faults.SWITCH: "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
    gone, alive = psutil.wait_procs([child], timeout=30)
    assert (len(gone), alive) == (1, [])


def test_required_refuses_where_it_does_not_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    path = media.sample("plain.mp4")
    with Sandbox(Limits(memory_mb=1024, confine="required")) as sandbox:
        if confine.level().holds:
            assert sandbox.measure(path, path.name, MediaPlan()).verdict is None
        monkeypatch.setattr(decoder.Decoder, "_greeting", lambda self: Level(0, True))
        sandbox.close()
        with pytest.raises(UserError, match="Landlock") as refused:
            sandbox.measure(path, path.name, MediaPlan())
        assert "\n" not in str(refused.value)
        assert sandbox.level is None


@pytest.mark.parametrize(
    "level", [Level(0, False), Level(0, True), Level(3, False), Level(3, True), Level(6, True, True)]
)
def test_a_level_says_what_holds(level: Level) -> None:
    assert level.holds == (level.landlock > 0 and level.seccomp)
    assert "\n" not in level.text
    assert ("no file but its video" in level.text) == (level.landlock > 0)
    assert ("device nodes" in level.text) == level.gpu
    confine.require(level, "best")
    if not level.holds:
        with pytest.raises(UserError):
            confine.require(level, "required")


def test_a_child_that_does_not_start_is_nobodys_video(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "curation.py").write_text("raise ImportError('no package here')")
    monkeypatch.setattr(decoder, "_ROOT", str(tmp_path))
    path = media.sample("plain.mp4")
    with Sandbox(LIMITS) as sandbox, pytest.raises(UserError, match=r"no package here.*doctor"):
        sandbox.measure(path, path.name, MediaPlan())


def test_a_detector_whose_package_lacks_is_said_by_its_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from curation.media.plan import ShotPlan

    (tmp_path / "scenedetect.py").write_text("raise ImportError")
    environment = decoder._environment(gpu=False)
    shadowed = {**environment, "PYTHONPATH": f"{tmp_path}:{environment['PYTHONPATH']}"}
    monkeypatch.setattr(decoder, "_environment", lambda gpu: shadowed)
    path = media.sample("plain.mp4")
    with Sandbox(LIMITS) as sandbox, pytest.raises(UserError, match="scenedetect-headless"):
        sandbox.measure(path, path.name, MediaPlan(shots=ShotPlan("adaptive")))
