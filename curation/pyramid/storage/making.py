"""A new pyramid where there is none: its datasets first, then `pyramid.json`, which makes it one.

Safe when two jobs make one at the same time, and after a making that was cut short: what is there already is taken.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from curation.contract import BEFORE_FORMAT_4
from curation.errors import UserError
from curation.pyramid.history import recipes
from curation.pyramid.storage import about as about_file
from curation.pyramid.storage.about import About, ready
from curation.pyramid.storage.datasets import create, names, schema
from curation.pyramid.storage.files import Files
from curation.retry import explained, retrying


def made(place: str, about: About, storage_options: Mapping[str, str] | None, recipe_text: str | None = None) -> About:
    """Make what `about` describes, and give what is there now: another job may have been faster. UserError: the place
    cannot be written, or holds what an older version began to make.
    """
    what = f"cannot write to {place}"
    options = about_file.options(place, storage_options)
    files = Files(place, options)
    try:
        if not about_file.is_remote(place):
            Path(place).mkdir(parents=True, exist_ok=True)
        _datasets(place, about, options, what)
        with about_file.changing(place):
            # Another job may have been faster: its pyramid is the one.
            there = retrying(what, lambda: about_file.read(place, options))
            if there is not None:
                return ready(place, there)
            if recipe_text is not None:
                version = retrying(what, lambda: recipes.keep(files, recipe_text))
                digest = recipes.digest(recipe_text)
                about = replace(about, recipe_version=version, recipe_sha256=digest)
            retrying(what, lambda: about_file.write(place, about, options))
            return about
    except OSError as error:
        raise explained(error, what) or UserError(
            f"cannot write to {place} ({error.strerror or str(error)[:200]})",
            "check that it is a folder you may write to",
        ) from error


def _datasets(place: str, about: About, options: dict[str, str] | None, what: str) -> None:
    """Its empty datasets."""
    import lance

    for name in names(about.spaces):
        columns = schema(name, about.scores, about.spaces)
        retrying(what, lambda name=name, columns=columns: create(f"{place}/{name}.lance", columns, options))
    clips = lance.dataset(f"{place}/clips.lance", storage_options=options)
    is_older = not {*BEFORE_FORMAT_4}.isdisjoint(clips.schema.names)
    if is_older and about_file.read(place, options) is None:
        raise UserError(f"{place} holds what an older Ziggurat began to make", "remove it, or choose another")
