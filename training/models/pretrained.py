"""Where a borrowed model's weights are, and the strict way of loading them.

A source is a file, a folder or `hub:OWNER/NAME`, which is how a user allows a download: nothing else here opens a
connection. Libraries fill what a checkpoint lacks with random numbers and a log line; here that is an error. (A plain
safetensors file is `weights`' business.)
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from curation.errors import UserError

HUB = "hub:"
INSTALL = "pip install -e '.[train]'"
_PLAIN = (".safetensors", ".json", ".model", ".txt")
"""Files that hold a model without code: weights, settings, vocabularies."""


def locate(source: str | Path, what: str) -> Path:
    """The file or folder of `what`; `hub:OWNER/NAME[/FOLDER or FILE]` is fetched into the hub's cache first.

    Raises `UserError` where there is nothing, or nothing could be fetched.
    """
    if str(source).startswith(HUB):
        return _fetched(str(source).removeprefix(HUB), what)
    path = Path(source).expanduser()
    if not path.exists():
        raise UserError(f"{path}, for {what}, does not exist", f"give a file or folder, or {HUB}OWNER/NAME to fetch")
    return path


def locate_folder(source: str | Path, what: str) -> Path:
    """As `locate`, for a model that is a folder."""
    path = locate(source, what)
    if not path.is_dir():
        raise UserError(f"{path} is a file", f"{what} is given as a folder with its config.json")
    return path


def _fetched(name: str, what: str) -> Path:
    owner, _, rest = name.partition("/")
    model, _, inside = rest.partition("/")
    if not owner or not model:
        raise UserError(f"'{HUB}{name}' names no {what}", f"write {HUB}OWNER/NAME")
    start = f"{inside}/*" if inside else "*"
    wanted = [inside] if inside.endswith(_PLAIN) else [start + suffix for suffix in _PLAIN]
    try:
        import huggingface_hub

        root = Path(huggingface_hub.snapshot_download(f"{owner}/{model}", allow_patterns=wanted))
    except ImportError as error:
        raise missing_package(error) from error
    except Exception as error:  # the client raises its HTTP library's errors beside its own
        cause = str(error).strip().split("\n")[0] or type(error).__name__
        raise UserError(f"could not fetch {what} from the hub: {cause}", "check the name, or give a folder") from error
    if not (root / inside).exists():
        raise UserError(f"{owner}/{model} on the hub has no '{inside}'", "check the name")
    return root / inside


def missing_package(error: ImportError) -> UserError:
    """What to raise where an optional package is absent."""
    return UserError(f"the package {error.name} is not installed", INSTALL)


def pretrained(model: Any, folder: Path, what: str, **options: Any) -> Any:
    """`model.from_pretrained(folder)` of transformers or diffusers: local, safetensors, in eval mode without gradients.

    Raises `UserError` where a weight is missing or of another shape; weights that the class does not need are left out.
    """
    try:
        with _no_report():
            found, info = model.from_pretrained(
                str(folder), local_files_only=True, use_safetensors=True, output_loading_info=True, **options
            )
    except Exception as error:  # the libraries raise whatever a wrong folder provokes: OSError to AttributeError
        cause = str(error).strip().split("\n")[0] or type(error).__name__
        raise UserError(f"{folder} is not {what} ({cause})", "give the folder with its config.json") from error
    absent = sorted(str(key) for key in info["missing_keys"])
    if absent or info["mismatched_keys"]:
        first = absent[0] if absent else str(next(iter(info["mismatched_keys"])))
        raise UserError(f"{folder} is not {what}: it lacks {first}", "give a complete checkpoint")
    return found.eval().requires_grad_(False)


@contextmanager
def _no_report() -> Iterator[None]:
    """Without the libraries' tables of unused weights: what matters in them is an error here."""
    from transformers.utils import logging as bars

    loggers = [logging.getLogger(name) for name in ("transformers", "diffusers")]
    levels = [logger.level for logger in loggers]
    bars.disable_progress_bar()
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def settings_of(file: Path, what: str) -> dict[str, Any]:
    """A model's config.json."""
    try:
        return json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{file} cannot be read ({error})", f"get {what} again") from error


def fingerprint(folders: Iterable[Path], settings: Mapping[str, Any]) -> str:
    """sha256 of a model's files and settings. Reads every byte, about a second a gigabyte."""
    total = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for folder in folders:
        for file in sorted(path for path in folder.iterdir() if path.suffix in _PLAIN):
            with file.open("rb") as stream:
                total.update(f"{file.name}:{hashlib.file_digest(stream, 'sha256').hexdigest()}".encode())
    return total.hexdigest()
