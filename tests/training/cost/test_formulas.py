"""The report's numbers by formula (spec sections 1.6, 4.3, 4.6, 6), and what the formulas refuse."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import asdict

import pytest

from curation.errors import UserError
from training.cost import formulas
from training.cost.formulas import (
    GPUS,
    Transformer,
    gpu_named,
    mfu,
    sample_cost,
    seconds_at,
    tiled_voxels,
    tiles_of,
    utilisation,
)

pytest.importorskip("torch")

from training.cost import tables as tables
from training.cost.tables import DCAE, HUNYUAN

H200 = GPUS["H200"]


def test_table_1_information_ratios() -> None:
    assert [row.information_ratio for row in tables.autoencoders()] == [192, 96, 48, 96, 48]


def test_token_ratios_and_the_tokens_of_five_seconds() -> None:
    hunyuan, dcae = tables.autoencoders()[2:4]
    assert (hunyuan.token_ratio, dcae.token_ratio) == (1024, 4096)
    assert hunyuan.tokens == 76_032 and round((dcae.tokens or 0) / 1000) == 19
    assert DCAE.grid(128, 768, 768).tokens == 18_432


def test_tokens_of_eight_seconds_in_720p() -> None:
    assert HUNYUAN.size(125, 1280, 720) == (32, 160, 90)
    assert HUNYUAN.grid(125, 1280, 720).tokens == 115_200 == 8 * 16 * 1280 * 720 / formulas.token_ratio(HUNYUAN)


def test_video_dcae_against_hunyuan_doubles_the_information_ratio_at_16_times_the_compression() -> None:
    assert formulas.information_ratio(DCAE) / formulas.information_ratio(HUNYUAN) == 2
    assert DCAE.time * DCAE.space**2 / (HUNYUAN.time * HUNYUAN.space**2) == 16


def test_table_3() -> None:
    *rows, total = tables.stages()
    assert [row.gpu_days for row in rows] == [2240, 384, 1536]
    assert [round(row.usd / 1000, 1) for row in rows] == [107.5, 18.4, 73.7]
    assert [round(row.seconds_per_iteration or 0, 1) for row in rows] == [10.2, 13.3, 53.2]
    assert (total.gpu_days, total.usd) == (4160, 199_680)
    assert sum(round(row.usd / 1000, 1) for row in rows) == pytest.approx(199.6)  # as the report adds up
    assert round(total.gpu_hours, -3) == 100_000


def test_table_4() -> None:
    rows = tables.buckets(tables.TABLE_4, tables.SELECTIVE)
    assert [row.max_tokens for row in rows] == [2304, 4352, 6400, 8448, 256, 2304, 4096]
    assert all(7.5 <= row.step_seconds < 7.65 for row in rows)
    assert (round(min(row.mfu_step for row in rows), 2), round(max(row.mfu_step for row in rows), 2)) == (0.19, 0.22)
    assert (round(min(row.hfu_step for row in rows), 2), round(max(row.hfu_step for row in rows), 2)) == (0.24, 0.28)


def test_table_5() -> None:
    rows = tables.buckets(tables.TABLE_5, tables.FULL)
    assert [row.max_tokens for row in rows] == [20_736, 39_168, 57_600, 76_032, 2304]
    assert all(46 <= row.step_seconds <= 50 for row in rows)
    a, d = rows[0], rows[3]
    assert (f"{a.mfu_step:.1%}", f"{d.mfu_step:.1%}", f"{d.hfu_step:.1%}") == ("5.6%", "15.4%", "20.6%")


def test_a_long_clip_at_768_is_40_times_slower() -> None:
    assert tables.TABLE_4[3].throughput / tables.TABLE_5[3].throughput == pytest.approx(40)


SECTION_6 = {
    "256px 1 f": (768, "13.4", "4%", "31"),  # 13.448: the spec's 13.5 is rounded up
    "256px 33 f": (2_816, "14.9", "13%", "126"),
    "768px image": (2_816, "14.9", "13%", "126"),
    "256px 129 f": (8_960, "19.2", "33%", "516"),
    "768px 33 f": (21_248, "27.8", "54%", "1772"),
    "768px 65 f": (39_680, "40.7", "68%", "4845"),
    "768px 129 f": (76_544, "66.5", "81%", "15276"),
    "DC-AE 768px 128 f": (18_944, "26.2", "51%", "1488"),
}


@pytest.mark.parametrize("case", SECTION_6)
def test_flops_of_section_6(case: str) -> None:
    row = next(row for row in tables.flops() if row.case == case)
    giga, tera = f"{row.forward_per_token / 1e9:.1f}", f"{row.train / 1e12:.0f}"
    assert (row.length, giga, f"{row.attention_share:.0%}", tera) == SECTION_6[case]


def test_weights_per_token_and_the_two_terms() -> None:
    model = Transformer()
    assert round(model.weights_per_token / 1e9, 3) == 6.455
    assert model.forward_per_token(1000) == 2 * 57 * 12 * 3072**2 + 57 * 4 * 1000 * 3072


def test_figure_8() -> None:
    hunyuan, dcae = tables.runs()
    assert (round(hunyuan.videos_per_second, 3), round(dcae.videos_per_second, 3)) == (0.108, 0.559)
    assert (round(dcae.faster, 1), round(dcae.samples_faster, 1)) == (5.2, 10.2)
    assert [f"{x:.1%}" for x in (hunyuan.mfu_step, hunyuan.hfu_step, dcae.mfu_step)] == ["20.8%", "27.7%", "10.5%"]
    assert round(hunyuan.dit_seconds, 1) == 21.6 and round(37.2 - hunyuan.dit_seconds, 1) == 15.6
    assert round(hunyuan.sampling / 1e12) == 461


def test_mfu_of_the_transformer_alone_and_of_the_step() -> None:
    clip = sample_cost(HUNYUAN, 129, 768, 768)
    used = utilisation(clip, 4, 8, H200, step_seconds=37.2, dit_seconds=21.6, recompute=1.0)
    assert used.mfu_dit == pytest.approx(0.3575, abs=2e-4)
    assert used.mfu_step == pytest.approx(4 * 3 * clip.forward / (37.2 * 8 * 989e12))
    assert used.hfu_step == pytest.approx(used.mfu_step * 4 / 3)
    assert utilisation(clip, 4, 8, H200, 37.2).mfu_dit is None


def test_seconds_at_is_the_inverse_of_mfu_and_a_budget_follows() -> None:
    clip = sample_cost(HUNYUAN, 129, 256, 256)
    assert mfu(1e18, seconds_at(1e18, 0.4, 8, H200), 8, H200) == pytest.approx(0.4)
    money = formulas.budget(clip, 70e6, 224, H200, mfu_step=0.2, per_hour=2)
    assert money.gpu_days == pytest.approx(70e6 * clip.train / (0.2 * 989e12) / 86_400)
    assert money.days * 224 == pytest.approx(money.gpu_days) and money.usd == pytest.approx(money.gpu_days * 48)


def test_dcae_tiles_of_a_768_clip() -> None:
    tiles = tiles_of(128, 768, 768)
    assert sum(tiles.values()) == 6 * 4 * 4 and set(tiles) >= {(32, 256, 256), (8, 192, 192)}
    assert round(tiled_voxels(tiles) / (128 * 768 * 768), 2) == 2.05


def test_what_fits_a_tile_is_not_cut() -> None:
    assert tiles_of(32, 256, 256) == {(32, 256, 256): 1}
    assert sum(tiles_of(16, 256, 288).values()) == 4  # height and width are cut together
    assert tiles_of(129, 256, 256, tile_frames=None) == {(129, 256, 256): 1}


def test_a_config_of_the_model_gives_the_same_sizes() -> None:
    from training.models.mmdit.config import opensora_v2

    assert Transformer.of(opensora_v2()) == Transformer()


def test_any_shape() -> None:
    found = tables.shape(
        "dcae", 128, 768, 768, gpu="h100", gpus=8, samples=16, step_seconds=28.6, checkpointed=(19, 38)
    )
    assert found.used and f"{found.used.mfu_step:.1%}" == "10.5%"
    assert found.peak_seconds == pytest.approx(found.train / 989e12)
    assert tables.shape("dcae256", 1, 64, 64, text=0).sample.length == 4


def test_report_is_plain_data() -> None:
    found = asdict(tables.report())
    assert set(found) == {"autoencoders", "stages", "buckets_256", "buckets_768", "flops", "runs", "gpus"}
    assert found["gpus"][2] == {"name": "H200", "bf16": 989e12, "source": GPUS["H200"].source}


REFUSED = {
    "an unknown GPU": (lambda: gpu_named("V100"), "A100, H100, H200, B200"),
    "frames off the grid": (lambda: sample_cost(HUNYUAN, 128, 256, 256), "4k \\+ 1"),
    "a side off the grid": (lambda: sample_cost(DCAE, 128, 256, 250), "multiples of 32"),
    "an empty picture": (lambda: sample_cost(HUNYUAN, 1, 0, 256), "positive"),
    "text below 0": (lambda: sample_cost(HUNYUAN, 1, 256, 256, text=-1), "0 or more"),
    "no time": (lambda: mfu(1.0, 0.0, 8, H200), "positive number of seconds"),
    "time that is not a number": (lambda: mfu(1.0, float("nan"), 8, H200), "positive number of seconds"),
    "no GPU": (lambda: mfu(1.0, 1.0, 0, H200), "at least one"),
    "a part longer than the whole": (
        lambda: tables.shape("hunyuan", 1, 256, 256, step_seconds=1, dit_seconds=2),
        "exchange",
    ),
    "a utilisation above 1": (lambda: seconds_at(1.0, 38.19, 8, H200), "at most 1"),
    "a price below 0": (lambda: formulas.dollars(1, -2), "0 or more"),
    "no samples": (lambda: formulas.budget(sample_cost(HUNYUAN, 1, 256, 256), 0, 8, H200, 0.4), "positive number"),
    "more blocks than there are": (lambda: Transformer().recompute(20, 38), "19 and 38"),
    "an unknown autoencoder": (lambda: tables.shape("wan", 1, 256, 256), "hunyuan, dcae"),
    "a full overlap": (lambda: tiles_of(64, 256, 256, overlap=1.0), "below 1"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_refused(what: str) -> None:
    call, remedy = REFUSED[what]
    with pytest.raises(UserError, match=remedy):
        call()


def test_formulas_need_no_torch() -> None:
    code = "import sys; sys.modules['torch'] = None; from training.cost.formulas import Transformer"
    code += "; print(Transformer().forward_per_token(768))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "13447987200.0", done.stderr
