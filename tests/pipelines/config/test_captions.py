"""`[[captions]]` of a recipe: what is refused, in a line that shows no secret, and what makes captions anew."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from curation.errors import UserError
from pipelines.config import promptfile
from pipelines.config.captions import MakeEndpoint, key_of, listed
from pipelines.config.recipe import SHIPPED, differences, load, parsed

SECRET = "sk-secret-0123"
NEEDED = {"name": '"dense"', "tier": '"all"', "model": '"org/vlm"', "endpoint": '"http://127.0.0.1:8000/v1"'}


def recipe(*blocks: dict[str, str]) -> str:
    tables = ("".join(f"{key} = {value}\n" for key, value in (NEEDED | block).items()) for block in blocks)
    return 'name = "r"\n[[tiers]]\nname = "all"\n' + "".join(f"[[captions]]\n{table}" for table in tables)


def by(**keys: str) -> str:
    return listed(parsed(recipe(keys), "r"))[0].by


def test_no_shipped_recipe_has_captions() -> None:
    assert all(load(path.stem).captions == () for path in SHIPPED.glob("*.toml"))


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"engine": '"sglang"'}, "captions.0.engine: 'openai' and 'vllm' are allowed"),
        ({"gpus": "1.0"}, "captions.0: gpus is no key of a block with engine = 'openai'"),
        ({"tier": '"high"'}, "captions (dense) tier = 'high': one of all is allowed"),
        ({"name": '"a b"'}, "captions.0.name = 'a b'"),
        ({"modle": '"x"'}, "captions.0.modle = 'x': no such key; allowed are name, tier, engine, model"),
        ({"frames": "4"}, "captions.0.frames = 4: input should be less than or equal to 3"),
        ({"budget_tokens": "0"}, "captions.0.budget_tokens = 0: input should be greater than 0"),
        ({"budget_usd": "0"}, "captions.0.budget_usd = 0"),
        ({"budget_tokens": "10"}, "captions.0: budget_tokens 10 allows not one answer of max_tokens 1024"),
        ({"budget_usd": "1.0"}, "captions.0: budget_usd needs usd_per_million_in and usd_per_million_out"),
        ({"usd_per_million_in": "1.0"}, "captions.0: usd_per_million_in and usd_per_million_out go together"),
        ({"extra_body": "{ model = 1 }"}, "model is not said here"),
        ({"extra_body": "{ day = 2020-01-01 }"}, "no dates"),
        ({"endpoint": '"localhost:8000"'}, "captions.0: endpoint is an address as http://HOST:PORT/v1"),
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
        {"key": f'"{SECRET}"'},
        {"api_key": f'"{SECRET}"'},
        {"headers": f'{{ Authorization = "Bearer {SECRET}" }}'},
        {"endpoint": f'"https://me:{SECRET}@example.org/v1"'},
        {"endpoint": f'"https://example.org/v1?key={SECRET}"'},
    ],
)
def test_a_secret_in_a_recipe_is_refused_and_not_repeated(keys: dict[str, str]) -> None:
    with pytest.raises(UserError) as raised:
        parsed(recipe(keys), "r")
    assert SECRET not in str(raised.value) and "captions.0: " in str(raised.value)


def test_two_blocks_of_one_name_are_refused() -> None:
    with pytest.raises(UserError, match="the name 'dense' is given twice"):
        parsed(recipe({}, {}), "r")


def test_what_changes_what_is_said_makes_captions_anew_and_nothing_else() -> None:
    base = by()
    assert base.startswith("dense/org/vlm/") and len(base.rpartition("/")[2]) == 12
    said = ({"model": '"org/vlm2"'}, {"revision": '"2"'}, {"frames": "1"}, {"side": "320"}, {"cues": "true"})
    drawn = ({"temperature": "0.5"}, {"max_tokens": "99"}, {"seed": "1"}, {"extra_body": "{ top_k = 1 }"})
    others = [by(**keys) for keys in (*said, *drawn)]
    assert len({base, *others}) == 10
    bounds = (
        {"timeout_s": "3"},
        {"concurrency": "2"},
        {"budget_tokens": "5000"},
        {"key_env": '"K"'},
        {"given": '"keep"'},
    )
    assert {by(**keys) for keys in (*bounds, {"given": '"keep"'}, {"endpoint": '"https://example.org/v1"'})} == {base}


def test_a_prompt_of_one_s_own_is_read_and_counts(tmp_path: Path) -> None:
    own = tmp_path / "own.toml"

    def of(text: str) -> str:
        own.write_text(text)
        return by(prompt=f'"{own}"')

    first = of('version = 1\nask = "Describe."')
    assert first != by() and first == of('version = 1\nask = "Describe."')
    assert len({first, of('version = 2\nask = "Describe."'), of('version = 1\nask = "Tell."')}) == 3
    assert promptfile.load(str(own)).aspects == ()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("ask = 'x'", "version: this key is needed"),
        ("version = 1\nask = 'x'\nfuse = 'y'", "aspects and fuse go together"),
        ("version = 1\nask = 'x'\nfuse = 'y'\n[[aspects]]\nname = 'A b'\nask = 'z'", "aspects.0.name = 'A b'"),
        ("version = 1\nask = 'x'\nfuse = 'y'\n" + "[[aspects]]\nname = 'a'\nask = 'z'\n" * 2, "'a' is given twice"),
        ("version = ", "is not TOML"),
    ],
)
def test_a_prompt_that_is_none_is_one_line(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "own.toml").write_text(text)
    with pytest.raises(UserError, match=r"prompt|TOML") as raised:
        listed(parsed(recipe({"prompt": f'"{tmp_path / "own.toml"}"'}), "r"))
    assert told in str(raised.value)


def test_the_shipped_prompt_has_the_report_s_six_aspects_in_order() -> None:
    names = [aspect.name for aspect in promptfile.load("six-aspects").aspects]
    assert names == ["subjects", "actions", "background", "light", "camera", "style"]


def test_later_blocks_outrank_earlier_ones() -> None:
    blocks = listed(parsed(recipe({}, {"name": '"fine"'}, {"name": '"finest"'}), "r"))
    makers = [block.by for block in blocks]
    assert [block.outranked_by for block in blocks] == [tuple(makers[1:]), tuple(makers[2:]), ()]
    (chosen,) = listed(parsed(recipe({}, {"name": '"fine"'}), "r"), ["dense"])
    assert chosen.outranked_by and chosen.stage == "caption dense"
    with pytest.raises(UserError, match=r"no \[\[captions\]\] called 'coarse'; it has dense"):
        listed(parsed(recipe({}), "r"), ["coarse"])


def test_a_key_is_read_from_its_variable_where_the_captioner_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TEST_VLM_KEY", raising=False)
    assert key_of(None) is None
    (block,) = listed(parsed(recipe({"key_env": '"TEST_VLM_KEY"'}), "r"))
    settings: Any = block.settings
    make: Any = MakeEndpoint(settings, block.prompt, block.key_env, lambda a, b: (a, b))
    with pytest.raises(UserError, match="variable TEST_VLM_KEY"):
        make()
    monkeypatch.setenv("TEST_VLM_KEY", f" {SECRET}\n")
    assert key_of("TEST_VLM_KEY") == SECRET and SECRET not in repr(make)


def test_differences_name_the_block_and_the_key() -> None:
    before, after = parsed(recipe({}), "r"), parsed(recipe({"frames": "1"}), "r")
    assert differences(before, after) == ["captions.dense.frames 3 -> 1"]
