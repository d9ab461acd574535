"""PSNR, SSIM and LPIPS against slow derivations of their definitions."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from curation.errors import UserError
from training.quality.lpips import Lpips, load_lpips
from training.quality.reconstruction import psnr, reconstruction, ssim

SMALL = ((4, 2), (6, 1), (5, 2))
"""A trunk of three stages: channels and convolutions."""


def pair(seed: int = 0, size: tuple[int, int] = (18, 15)) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    a = torch.rand(2, 3, *size, generator=generator)
    noise = torch.randn(a.shape, generator=generator)
    return a, (a + torch.tensor([0.02, 0.2])[:, None, None, None] * noise).clamp(0, 1)


def ssim_by_definition(a: np.ndarray, b: np.ndarray) -> float:
    """One frame (3, H, W): each window's weighted means, variances and covariance, one window at a time."""
    offsets = np.arange(11) - 5
    window = np.exp(-(offsets[:, None] ** 2 + offsets[None] ** 2) / (2 * 1.5**2))
    window /= window.sum()
    values = []
    for channel in range(3):
        for y in range(a.shape[1] - 10):
            for x in range(a.shape[2] - 10):
                p, q = (v[channel, y : y + 11, x : x + 11] for v in (a, b))
                mp, mq = (window * p).sum(), (window * q).sum()
                vp, vq = (window * (p - mp) ** 2).sum(), (window * (q - mq) ** 2).sum()
                cov = (window * (p - mp) * (q - mq)).sum()
                top = (2 * mp * mq + 1e-4) * (2 * cov + 9e-4)
                values.append(top / ((mp**2 + mq**2 + 1e-4) * (vp + vq + 9e-4)))
    return float(np.mean(values))


def test_psnr_by_definition() -> None:
    a, b = pair()
    want = [
        10 * math.log10(1 / np.mean((x - y) ** 2)) for x, y in zip(a.double().numpy(), b.double().numpy(), strict=True)
    ]
    assert psnr(a, b).tolist() == pytest.approx(want, abs=1e-4)
    assert psnr(torch.zeros(1, 3, 2, 2), torch.full((1, 3, 2, 2), 0.1)).item() == pytest.approx(20)


def test_ssim_by_definition() -> None:
    a, b = pair()
    want = [ssim_by_definition(x, y) for x, y in zip(a.double().numpy(), b.double().numpy(), strict=True)]
    assert ssim(a, b).tolist() == pytest.approx(want, abs=1e-5)
    assert want[0] > 0.9 > want[1]


def test_ssim_equals_scikit_image() -> None:
    metrics = pytest.importorskip("skimage.metrics")
    a, b = pair(1, (40, 33))
    settings = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0}
    want = [
        metrics.structural_similarity(x, y, channel_axis=0, **settings)
        for x, y in zip(a.double().numpy(), b.double().numpy(), strict=True)
    ]
    assert ssim(a, b).tolist() == pytest.approx(want, abs=1e-5)


def test_a_perfect_copy() -> None:
    a, _ = pair()
    found = reconstruction(a, a.clone())
    assert found.psnr == math.inf and found.ssim == pytest.approx(1, abs=1e-6) and found.lpips is None


def test_bytes_give_what_floats_give() -> None:
    a, b = ((x * 255).round().to(torch.uint8) for x in pair())
    assert reconstruction(a, b) == reconstruction(a.float() / 255, b.float() / 255)


def drawn_lpips() -> Lpips:
    network = Lpips(SMALL)
    generator = torch.Generator().manual_seed(3)
    for parameter in network.parameters():
        parameter.data = 0.3 * torch.randn(parameter.shape, generator=generator)
    return network


def lpips_by_hand(state: dict[str, np.ndarray], a: np.ndarray, b: np.ndarray) -> float:
    """One picture (3, H, W) in -1..1 through convolutions written as sums over the nine taps."""

    def conv(x: np.ndarray, index: int) -> np.ndarray:
        kernel, bias = state[f"features.{index}.weight"], state[f"features.{index}.bias"]
        h, w = x.shape[1:]
        padded = np.pad(x, ((0, 0), (1, 1), (1, 1)))
        taps = [
            np.einsum("oc,chw->ohw", kernel[:, :, i, j], padded[:, i : i + h, j : j + w])
            for i in range(3)
            for j in range(3)
        ]
        return np.maximum(sum(taps) + bias[:, None, None], 0)

    def pool(x: np.ndarray) -> np.ndarray:
        c, h, w = x.shape
        return x[:, : h // 2 * 2, : w // 2 * 2].reshape(c, h // 2, 2, w // 2, 2).max((2, 4))

    def taps(x: np.ndarray) -> list[np.ndarray]:
        x = (x - np.array([-0.030, -0.088, -0.188])[:, None, None]) / np.array([0.458, 0.448, 0.450])[:, None, None]
        first = conv(conv(x, 0), 2)
        second = conv(pool(first), 5)
        third = conv(conv(pool(second), 8), 10)
        return [t / (np.sqrt((t**2).sum(0, keepdims=True)) + 1e-10) for t in (first, second, third)]

    both = zip(taps(a), taps(b), strict=True)
    return sum(
        float((state[f"linear.{i}"][:, None, None] * (p - q) ** 2).sum(0).mean()) for i, (p, q) in enumerate(both)
    )


def test_lpips_by_hand() -> None:
    network = drawn_lpips()
    a, b = (2 * x - 1 for x in pair())
    state = {name: value.double().numpy() for name, value in network.state_dict().items()}
    want = [lpips_by_hand(state, x, y) for x, y in zip(a.double().numpy(), b.double().numpy(), strict=True)]
    assert network(a, b).tolist() == pytest.approx(want, rel=1e-4)
    assert network(a, a).tolist() == [0, 0]


def test_lpips_in_a_reconstruction_takes_zero_to_one() -> None:
    network = drawn_lpips()
    a, b = pair()
    assert reconstruction(a, b, network).lpips == pytest.approx(network(2 * a - 1, 2 * b - 1).mean().item(), rel=1e-5)


def test_lpips_compiles_to_one_graph_and_gives_gradients() -> None:
    a, b = (2 * x - 1 for x in pair())
    b.requires_grad_()
    torch.compile(drawn_lpips(), backend="eager", fullgraph=True)(a, b).sum().backward()
    assert b.grad is not None and b.grad.abs().sum() > 0


@pytest.fixture(scope="module")
def vgg16(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """VGG16 without training under torchvision's names, and the linear layers under the lpips package's."""
    folder = tmp_path_factory.mktemp("lpips")
    network = Lpips()
    trunk = {f"features.{name}": value for name, value in network.features.state_dict().items()}
    torch.save(trunk | {"classifier.0.weight": torch.zeros(2)}, folder / "vgg16.pth")
    heads = {
        f"lin{i}.model.1.weight": torch.full((1, c, 1, 1), i + 1.0) for i, c in enumerate((64, 128, 256, 512, 512))
    }
    torch.save(heads, folder / "lin.pth")
    return folder / "vgg16.pth", folder / "lin.pth"


def test_lpips_from_the_public_files(vgg16: tuple[Path, Path]) -> None:
    network = load_lpips(*vgg16)
    numbered = [i for i, layer in enumerate(network.features) if isinstance(layer, torch.nn.Conv2d)]
    assert numbered == [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28] and network.taps == [3, 8, 15, 22, 29]
    assert [layer[0].item() for layer in network.linear] == [1, 2, 3, 4, 5]
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_lpips_without_its_files_is_refused(vgg16: tuple[Path, Path]) -> None:
    with pytest.raises(UserError, match=r"VGG16 of torchvision is needed.*vgg16-397923af\.pth"):
        load_lpips(None, vgg16[1])
    with pytest.raises(UserError, match="is not LPIPS's linear layers"):
        load_lpips(vgg16[0], vgg16[0])


def test_lpips_equals_the_public_package(vgg16: tuple[Path, Path]) -> None:
    lpips = pytest.importorskip("lpips")
    theirs = lpips.LPIPS(net="vgg", pnet_rand=True, verbose=False)
    lin = Path(lpips.__file__).parent / "weights" / "v0.1" / "vgg.pth"
    names = [name for name in theirs.net.state_dict() if name.startswith("slice")]
    trunk = {"features." + name.split(".", 1)[1]: theirs.net.state_dict()[name] for name in names}
    torch.save(trunk, vgg16[0].with_name("theirs.pth"))
    ours = load_lpips(vgg16[0].with_name("theirs.pth"), lin)
    a, b = (2 * x - 1 for x in pair(5, (40, 48)))
    torch.testing.assert_close(ours(a, b), theirs(a, b).flatten(), atol=1e-6, rtol=1e-4)
