"""Weights of an MMDiT from one public layout to another, a tensor at a time.

`Converted` shows a checkpoint in another layout (`layouts`) without holding it: it cuts the pieces out of the source's
tensors, reorders query and key channels where the rotation differs, and stacks the pieces anew when a tensor is read.
`load_mmdit` puts any layout into a model, `save_mmdit` writes a model in any, `convert_file` turns any into any.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from curation.errors import UserError
from training.models.layouts import Layout, Piece, detect, layout_of, metadata, stacks
from training.models.mmdit import MMDiT, MMDiTConfig
from training.models.weights import Allowed, Files, InMemory, Report, Tensors, compare, listing, load, write

log = logging.getLogger(__name__)

NEW_LATENT = Allowed(
    drop=("guidance_in.", "time_text_embed.guidance_embedder.", "cond_in."),
    fresh=("img_in.", "cond_in.", "final_layer.linear."),
)
"""For training on from another model: its guidance input goes, and in- and output start anew where the autoencoder or
the condition differ (report, 4.3.3; spec section 3, "Init")."""


class Converted:
    """`source`, in layout `given`, seen as `Tensors` of layout `wanted`; a tensor is converted when it is read.

    It has the tensors whose pieces are all in the source; `unused` are names of the source that no tensor needs.
    UserError where a stacked tensor does not have `config`'s number of rows.
    """

    def __init__(self, source: Tensors, given: Layout, wanted: Layout, config: MMDiTConfig) -> None:
        self.where = source.where
        self.metadata = metadata(wanted)
        self._source = source
        self._head_dim = config.head_dim
        self._turn = {(True, False): halves, (False, True): interleaved}.get((given.interleaved, wanted.interleaved))
        self._places = dict(_places(source, given, config))
        self._stacks = {name: pieces for name, pieces in stacks(wanted, config) if self._places.keys() >= set(pieces)}
        used = {self._places[piece].tensor for pieces in self._stacks.values() for piece in pieces}
        self.unused = tuple(name for name in source.names() if name not in used)

    def names(self) -> Sequence[str]:
        return list(self._stacks)

    def shape(self, name: str) -> tuple[int, ...]:
        places = [self._places[piece] for piece in self._stacks[name]]
        return sum(place.rows for place in places), *self._source.shape(places[0].tensor)[1:]

    def dtype(self, name: str) -> torch.dtype:
        return self._source.dtype(self._places[self._stacks[name][0]].tensor)

    def read(self, name: str, start: int = 0, stop: int | None = None) -> Tensor:
        pieces = [self._piece(piece) for piece in self._stacks[name]]
        tensor = pieces[0] if len(pieces) == 1 else torch.cat(pieces)
        return tensor[start:stop] if start or stop is not None else tensor

    def sources(self, name: str) -> tuple[str, ...]:
        """The source's tensors that this one takes rows of."""
        return tuple(dict.fromkeys(self._places[piece].tensor for piece in self._stacks[name]))

    def _piece(self, piece: Piece) -> Tensor:
        place = self._places[piece]
        rows = self._source.read(place.tensor, place.start, place.start + place.rows)
        return self._turn(rows, self._head_dim) if self._turn and piece.role in ("q", "k") else rows


def halves(rows: Tensor, head_dim: int) -> Tensor:
    """Interleaved to rotate-half: of each head's rows the even ones, then the odd ones. Scores stay equal."""
    return rows.unflatten(0, (-1, head_dim // 2, 2)).transpose(1, 2).flatten(0, 2)


def interleaved(rows: Tensor, head_dim: int) -> Tensor:
    """The inverse of `halves`."""
    return rows.unflatten(0, (-1, 2, head_dim // 2)).transpose(1, 2).flatten(0, 2)


def load_mmdit(
    model: MMDiT,
    source: Tensors | Path | str,
    given: Layout | None = None,
    allowed: Allowed | None = None,
    device: torch.device | str = "cpu",
) -> Report:
    """Load any public layout into the model, one tensor in memory at a time; what was dropped and what starts anew.

    `given`: the source's layout, None to tell it by its names. `allowed`: None for a checkpoint that must fit,
    `NEW_LATENT` to train on from another model. A model on the meta device comes to life on `device`.
    """
    tensors, allowed = Files(source) if isinstance(source, Path | str) else source, allowed or Allowed()
    view = Converted(tensors, given or detect(tensors), layout_of(model.config), model.config)
    _refuse_unused(view, allowed)
    report = load(model, view, model.init_parameter, allowed, device)
    return Report((*_dropped(view), *report.dropped), report.fresh)


def save_mmdit(
    model: MMDiT, target: Path | str, wanted: Layout | None = None, allowed: Allowed | None = None
) -> list[Path]:
    """Write the model's weights in a layout, None for the model's own; the files written (`weights.write`)."""
    own = layout_of(model.config)
    view = Converted(InMemory(model.state_dict(), "the model"), own, wanted or own, model.config)
    _refuse_unused(view, allowed or Allowed())
    _dropped(view)
    return write(view, target)


def convert_file(
    source: Path | str,
    target: Path | str,
    wanted: Layout,
    config: MMDiTConfig,
    given: Layout | None = None,
    allowed: Allowed | None = None,
) -> Report:
    """Write the checkpoint `source` of a model of `config` to `target` in another layout, a shard in memory at a time.

    Where `wanted` has no place for a tensor (as diffusers has none for `cond_in`), `allowed.drop` must name it.
    """
    tensors = Files(source)
    given, allowed = given or detect(tensors), allowed or Allowed()
    with torch.device("meta"):
        expected = dict(MMDiT(config).named_parameters())
    as_ours = Converted(tensors, given, layout_of(config), config)
    compare(expected, as_ours, Allowed(drop=allowed.drop))
    view = Converted(tensors, given, wanted, config)
    _refuse_unused(view, allowed)
    write(view, target)
    return Report(_dropped(view))


def _refuse_unused(view: Converted, allowed: Allowed) -> None:
    refused = [name for name in view.unused if not name.startswith(allowed.drop)]
    if refused:
        raise UserError(
            f"{view.where} has tensors without a place in the model: {listing(refused)}",
            "choose the preset that it was made for, or allow them to be dropped",
        )


def _dropped(view: Converted) -> tuple[str, ...]:
    for name in view.unused:
        log.warning("%s: dropped %s", view.where, name)
    return view.unused


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a piece lies: `rows` of a tensor from `start`."""

    tensor: str
    start: int
    rows: int


def _places(source: Tensors, layout: Layout, config: MMDiTConfig) -> Iterator[tuple[Piece, _Place]]:
    """The pieces that the source has. One that is alone in its tensor is all of it, whatever its size."""
    held = set(source.names())
    for name, pieces in stacks(layout, config):
        if name not in held:
            continue
        rows = source.shape(name)[0]
        if len(pieces) == 1:
            yield pieces[0], _Place(name, 0, rows)
            continue
        sizes = [config.mlp_size if piece.role == "mlp" else config.hidden_size for piece in pieces]
        if rows != sum(sizes):
            raise UserError(
                f"{source.where} does not fit the model, {name} has {rows} rows instead of {sum(sizes)}",
                "choose the model preset that it was made for",
            )
        start = 0
        for piece, size in zip(pieces, sizes, strict=True):
            yield piece, _Place(name, start, size)
            start += size
