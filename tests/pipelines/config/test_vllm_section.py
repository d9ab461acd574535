"""`[[captions]]` with `engine = "vllm"`: what is refused, in a line that shows no secret; what makes captions anew; and
what the stage is given.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from curation.caption.offline.base import Settings
from curation.caption.offline.captioner import MakeOffline
from curation.errors import UserError
from curation.media.plan import Limits
from pipelines.config import captions
from pipelines.config.captions import Captions, check, listed
from pipelines.config.recipe import differences, parsed
from pipelines.curate import check_gpus
from pipelines.execution.orders.caption_orders import AHEAD_OF_SEVERAL, items, stages
from pipelines.stages.caption import CaptionStage
from pipelines.stages.pictures import ClipToCaption, PicturesStage
from tests.pipelines.config.test_captions import SECRET

NEEDED = {"name": '"dense"', "tier": '"all"', "engine": '"vllm"', "model": '"org/vlm"', "python": '"/env/bin/python"'}


def recipe(*blocks: dict[str, str]) -> str:
    tables = ("".join(f"{key} = {value}\n" for key, value in (NEEDED | block).items() if value) for block in blocks)
    return 'name = "r"\n[[tiers]]\nname = "all"\n' + "".join(f"[[captions]]\n{table}" for table in tables)


def block(**keys: str) -> Captions:
    return listed(parsed(recipe(keys), "r"))[0]


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"endpoint": '"http://h/v1"'}, "captions.0: endpoint is no key of a block with engine = 'vllm'"),
        ({"budget_usd": "1.0"}, "captions.0: budget_usd is no key of a block with engine = 'vllm'"),
        ({"extra_body": "{ top_k = 1 }"}, "captions.0: extra_body is no key of a block with engine = 'vllm'"),
        ({"python": ""}, "engine = 'vllm' needs an environment of its own: make env-vllm, and name its `python`"),
        ({"modle": '"x"'}, "captions.0.modle = 'x': no such key; allowed are name, tier, engine, model"),
        ({"gpus": "1.5"}, "gpus = 1.5: a share of one, or a whole number of them"),
        (
            {"engine_args": "{ tensor_parallel_size = 2 }"},
            "engine_args spread an engine over 2 GPUs, and gpus is 1",
        ),
        ({"engine_args": "{ max_model_len = 0 }"}, "captions.0.engine_args.max_model_len = 0: input should be greater"),
        ({"engine_args": '{ dtype = "fp8" }'}, "captions.0.engine_args.dtype = 'fp8': input should be 'auto'"),
        ({"engine_args": '{ enforce_eager = "yes" }'}, "captions.0.engine_args.enforce_eager = 'yes'"),
        ({"engine_args": '{ model = "x" }'}, "captions.0.engine_args: model is not said here: the block's `model`"),
        ({"engine_args": "{ mm_processor_cache_gb = 4 }"}, "mm_processor_cache_gb is not said here: always 0"),
        ({"engine_args": "{ seed = 2020-01-01 }"}, "no dates"),
    ],
)
def test_a_mistake_is_a_line_that_says_what_is_allowed(keys: dict[str, str], told: str) -> None:
    with pytest.raises(UserError) as raised:
        parsed(recipe(keys), "r")
    assert told in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "keys",
    [
        {"key_env": f'"{SECRET}"'},
        {"hf_token": f'"{SECRET}"'},
        {"engine_args": f'{{ hf_token = "{SECRET}" }}'},
        {"engine_args": f'{{ model_loader_extra_config = {{ access_key = "{SECRET}" }} }}'},
        {"engine_args": f'{{ kv_transfer_config = {{ a = [{{ password = "{SECRET}" }}] }} }}'},
    ],
)
def test_a_secret_in_a_recipe_is_refused_and_not_repeated(keys: dict[str, str]) -> None:
    with pytest.raises(UserError) as raised:
        parsed(recipe(keys), "r")
    assert SECRET not in str(raised.value) and "captions.0" in str(raised.value)


def test_arguments_with_a_token_in_their_name_are_no_secrets_and_others_of_vllm_s_pass() -> None:
    given = block(engine_args="{ max_num_batched_tokens = 512, block_size = 32 }").settings
    assert isinstance(given, Settings) and given.arguments == {"max_num_batched_tokens": 512, "block_size": 32}


def test_what_changes_what_is_said_makes_captions_anew_and_nothing_else() -> None:
    base = block().by
    assert base.startswith("dense/org/vlm/") and len(base.rpartition("/")[2]) == 12
    said: tuple[dict[str, str], ...] = (
        *({"model": '"org/vlm2"'}, {"revision": '"2"'}, {"frames": "1"}, {"side": "320"}, {"cues": "true"}),
        *({"temperature": "0.5"}, {"max_tokens": "99"}, {"seed": "1"}, {"engine_args": '{ dtype = "float32" }'}),
        {"engine_args": "{ mm_processor_kwargs = { max_pixels = 9 } }"},
    )
    assert len({base, *(block(**keys).by for keys in said)}) == 1 + len(said)
    bounds = ({"concurrency": "2"}, {"python": '"/other"'}, {"gpus": "0"}, {"cpus": "4"}, {"given": '"keep"'})
    assert {block(**keys).by for keys in bounds} == {base}
    costs = "{ gpu_memory_utilization = 0.5, max_num_seqs = 8, enforce_eager = true, tensor_parallel_size = 2 }"
    assert block(engine_args=costs, gpus="2").by == base, "memory and time are the machine's"


def test_a_folder_is_called_by_its_last_part_and_another_one_makes_captions_anew() -> None:
    one, other = (block(model=f'"/models/{name}/final"') for name in ("a", "b"))
    assert one.by.startswith("dense/final/") and other.by.startswith("dense/final/") and one.by != other.by


def test_paths_are_whole_where_the_worker_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = block(model='"./vlm"', python='".envs/vllm/bin/python"')
    assert isinstance(found.settings, Settings) and found.settings.model == str(tmp_path / "vlm")
    assert found.python == str(tmp_path / ".envs" / "vllm" / "bin" / "python")
    named = block().settings
    assert isinstance(named, Settings) and named.model == "org/vlm", "a name of the hub stays one"


def test_vllm_is_started_with_what_the_block_says_and_fetches_nothing() -> None:
    found = block(revision='"v2"', frames="2", gpus="2", engine_args='{ tensor_parallel_size = 2, dtype = "bfloat16" }')
    settings: Any = found.settings
    assert settings.engine_arguments == {
        "model": "org/vlm",
        "revision": "v2",
        "limit_mm_per_prompt": {"image": 2, "video": 0, "audio": 0},
        "mm_processor_cache_gb": 0,
        "distributed_executor_backend": "mp",
        "tensor_parallel_size": 2,
        "dtype": "bfloat16",
    }
    assert settings.variables["HF_HUB_OFFLINE"] == "1"
    assert "VLLM_ENABLE_V1_MULTIPROCESSING" not in settings.variables
    alone: Any = block(gpus="0").settings
    assert alone.variables["VLLM_ENABLE_V1_MULTIPROCESSING"] == "0"
    assert "distributed_executor_backend" not in alone.engine_arguments


def test_the_stage_has_as_many_workers_as_have_room_each_with_its_gpu_and_the_next_item_in_hand() -> None:
    found = block(cpus="4")
    assert (found.workers, found.gpus, found.cpus, found.python) == (None, 1.0, 4.0, "/env/bin/python")
    nowhere: Any = None
    pictures, captioning = stages(found, nowhere, Limits(), lambda a, b: (a, b))
    assert pictures.python is None and isinstance(pictures.make, PicturesStage)
    held = captioning.python, captioning.gpus, captioning.cpus, captioning.workers
    assert held == ("/env/bin/python", 1.0, 4.0, None)
    assert captioning.at_once == 2 and isinstance(captioning.make, CaptionStage) and captioning.make.look is None
    assert isinstance(captioning.make.make, MakeOffline)
    some = items((ClipToCaption(str(number), "v") for number in range(1000)), found)
    assert len(next(some)) == AHEAD_OF_SEVERAL * 32


def test_a_gpu_that_is_not_there_is_told_before_the_first_video() -> None:
    with pytest.raises(UserError, match="the captions dense ask for a GPU, and there is none"):
        check_gpus(parsed(recipe({}), "r"), (), False)
    check_gpus(parsed(recipe({"gpus": "0"}), "r"), (), False)


def test_what_wants_a_gpu_is_tried_where_one_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node without one runs no worker of it, and need not have its environment."""
    with_gpu, without = (parsed(recipe({"gpus": number}), "r").captions[0] for number in ("1", "0"))
    monkeypatch.setattr(captions, "gpus", list)
    assert check(with_gpu) == "dense not tried: no GPU on this machine"
    for section, found in ((without, []), (with_gpu, ["a GPU"])):
        monkeypatch.setattr(captions, "gpus", lambda found=found: found)
        with pytest.raises(UserError, match="/env/bin/python is not there"):
            check(section)


def test_differences_name_the_argument() -> None:
    before, after = parsed(recipe({}), "r"), parsed(recipe({"engine_args": "{ max_num_seqs = 4 }"}), "r")
    assert differences(before, after) == ["captions.dense.engine_args.max_num_seqs none -> 4"]
