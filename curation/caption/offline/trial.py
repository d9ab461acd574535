"""Whether vLLM's environment, the model and the arguments of a block go together: looked at before the first clip.

    interpreter -> Ray could start a worker with it -> vLLM and our code are there -> every argument is one of vLLM's
    -> the model is one of vision and language, whose processor is there and takes as many pictures as are sent

All but the weights is read, in a process of the environment, as `filters.trial` tries filters. What only loading shows
(too little memory of a GPU) ends the run at the first clip, in one line too.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from curation import interpreters
from curation.caption.offline.base import ENVIRONMENT, Settings
from curation.caption.transport import without_key
from curation.errors import UserError

_START = (
    "import importlib.util, json, sys\n"
    "if importlib.util.find_spec('curation') is None:\n"
    "    print(json.dumps({'cause': sys.argv[2], 'remedy': sys.argv[3]}))\n"
    "else:\n"
    "    from curation.caption.offline import trial\n"
    "    trial.main(sys.argv[1])"
)
"""Our code must be found without help, for Ray's worker there will have none."""

_WEIGHTS = "put its folder there, or fetch it with `hf download {}`: nothing is fetched by a run"


def check(settings: Settings, python: str) -> str:
    """What holds, in a line. Raises `UserError` with what does not."""
    return _checked(json.dumps(settings.as_json(), sort_keys=True), python)


@functools.lru_cache(maxsize=16)
def _checked(settings: str, python: str) -> str:
    """What went well once is not tried again in this process."""
    interpreters.check(python, f"`{ENVIRONMENT}`")
    model, variables = json.loads(settings)["model"], Settings(**json.loads(settings)).variables
    without = f"{python} is of an environment without ziggurat"
    command = [python, "-c", _START, settings, without, f"{ENVIRONMENT}, which puts it there"]
    return interpreters.answer(command, f"the trial of {model}", environment=variables)["holds"]


def main(settings: str) -> None:
    """What `check` starts: writes one JSON line, `holds` or `cause` and `remedy`."""
    try:
        found = {"holds": _look(Settings(**json.loads(settings)))}
    except UserError as error:
        found = {"cause": error.cause, "remedy": error.remedy}
    print(f"\n{json.dumps(found)}", flush=True)


def _look(settings: Settings) -> str:
    if importlib.util.find_spec("vllm") is None:
        raise UserError("there is no vLLM in the environment of captions", ENVIRONMENT)
    check_folder(settings.model)
    from vllm import EngineArgs

    check_arguments(settings.arguments, {one.name for one in dataclasses.fields(EngineArgs)})
    os.environ.update(settings.variables)
    try:
        config = EngineArgs(**settings.engine_arguments).create_model_config()
    except Exception as error:  # whatever it and transformers raise
        told = without_key(f"{type(error).__name__}: {error}", None)
        raise UserError(f"vLLM does not take the model {settings.model} ({told})", _remedy(settings.model)) from error
    limits = _limits(settings, config)
    if (most := limits.get("image", 0)) is not None and most < settings.pictures:
        what = "is no vision-language model" if not most else f"takes {most} pictures at a time"
        remedy = "name a model that sees pictures" if not most else f"set frames = {most}"
        raise UserError(f"the model {settings.model} {what}", remedy)
    return f"vLLM knows {settings.model} ({', '.join(config.architectures)})"


def _limits(settings: Settings, config: Any) -> Mapping[str, int | None]:
    """How many of each kind of thing, pictures among them, a prompt of the model may have; None for any number."""
    if not config.is_multimodal_model:
        return {}
    from vllm.multimodal import MULTIMODAL_REGISTRY

    try:
        return MULTIMODAL_REGISTRY.create_processor(config).info.get_supported_mm_limits()
    except Exception as error:
        told = without_key(f"{type(error).__name__}: {error}", None)
        raise UserError(
            f"the processor of {settings.model} cannot be made ({told})", "see that its folder is whole"
        ) from error


def check_folder(model: str) -> None:
    """`UserError` where a model is named by a path and is not there. A name of the hub's is vLLM's to find."""
    place = Path(model)
    if not (place.is_absolute() or model.startswith((".", "~"))):
        return
    if not place.is_dir():
        raise UserError(f"the model {model} is no folder on this machine", "name a folder that has config.json")
    if not (place / "config.json").is_file():
        raise UserError(f"the folder {model} has no config.json", "name the folder of a model in Hugging Face's format")


def check_arguments(given: Mapping[str, Any], known: set[str]) -> None:
    """`UserError` where an argument is none of vLLM's."""
    if unknown := next((name for name in given if name not in known), None):
        raise UserError(f"engine_args has {unknown!r}, which vLLM does not know", "see EngineArgs in vLLM's own pages")


def _remedy(model: str) -> str:
    return "see `engine_args` in the recipe" if Path(model).is_dir() else _WEIGHTS.format(model)
