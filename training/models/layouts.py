"""The public layouts of an MMDiT's weights, as tables from tensor names to pieces. `convert` works by them.

All layouts hold the same numbers and differ in three ways: the tensors' names, which of them are stacked along their
rows (query, key and value; value and MLP; the final layer's shift and scale), and the order of a head's query and key
channels. A *piece* is what no layout divides further.

    FLUX          Flux-dev's own file: stacked, interleaved rotation
    OPEN_SORA_V2  the released weights: value and MLP stacked in single blocks, rotate-half
    DIFFUSERS     FluxTransformer2DModel: nothing stacked but the final layer, scale before shift; interleaved

Names: golden README, "MMDiT files"; diffusers 0.42, `transformer_flux.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from curation.errors import UserError
from training.models.mmdit import MMDiTConfig
from training.models.weights import Tensors, listing


@dataclass(frozen=True, slots=True)
class Layout:
    """How a checkpoint names, stacks and orders its weights."""

    names: Literal["flux", "diffusers"]
    fused: bool
    interleaved: bool


FLUX = Layout("flux", fused=True, interleaved=True)
OPEN_SORA_V2 = Layout("flux", fused=False, interleaved=False)
DIFFUSERS = Layout("diffusers", fused=False, interleaved=True)
LAYOUTS = {"flux": FLUX, "opensora_v2": OPEN_SORA_V2, "diffusers": DIFFUSERS}

_ORDER = "rope"
_ORDERS = {"interleaved": True, "rotate_half": False}


class Piece(NamedTuple):
    """A part of a layer (`double.0.img.q`), and which of its tensors: weight, bias, or the scale of the part's norm."""

    part: str
    kind: str

    @property
    def role(self) -> str:
        """The part's last word: q, k, v, mlp, shift, ..."""
        return self.part.rpartition(".")[2]


_Layers = dict[str, tuple[str, ...]]
"""Layer name -> the parts stacked in it."""

_ENDS = {
    "img_in": "x_embedder",
    "txt_in": "context_embedder",
    "time_in.in_layer": "time_text_embed.timestep_embedder.linear_1",
    "time_in.out_layer": "time_text_embed.timestep_embedder.linear_2",
    "vector_in.in_layer": "time_text_embed.text_embedder.linear_1",
    "vector_in.out_layer": "time_text_embed.text_embedder.linear_2",
    "final_layer.linear": "proj_out",
}
"""The layers outside the blocks, and their names in diffusers."""

_DIFFUSERS_DOUBLE: _Layers = {
    "norm1.linear": ("img.mod",),
    "norm1_context.linear": ("txt.mod",),
    "attn.to_q": ("img.q",),
    "attn.to_k": ("img.k",),
    "attn.to_v": ("img.v",),
    "attn.add_q_proj": ("txt.q",),
    "attn.add_k_proj": ("txt.k",),
    "attn.add_v_proj": ("txt.v",),
    "attn.norm_q": ("img.q",),
    "attn.norm_k": ("img.k",),
    "attn.norm_added_q": ("txt.q",),
    "attn.norm_added_k": ("txt.k",),
    "attn.to_out.0": ("img.out",),
    "attn.to_add_out": ("txt.out",),
    "ff.net.0.proj": ("img.mlp",),
    "ff.net.2": ("img.mlp_out",),
    "ff_context.net.0.proj": ("txt.mlp",),
    "ff_context.net.2": ("txt.mlp_out",),
}
_DIFFUSERS_SINGLE: _Layers = {
    "norm.linear": ("mod",),
    "attn.to_q": ("q",),
    "attn.to_k": ("k",),
    "attn.to_v": ("v",),
    "attn.norm_q": ("q",),
    "attn.norm_k": ("k",),
    "proj_mlp": ("mlp",),
    "proj_out": ("out",),
}
_NORMS = ("query_norm", "key_norm", "norm_q", "norm_k", "norm_added_q", "norm_added_k")


def layout_of(config: MMDiTConfig) -> Layout:
    """The layout of a model of that configuration."""
    return Layout("flux", config.fused_qkv, config.interleaved_rope)


def detect(tensors: Tensors) -> Layout:
    """The layout that the names belong to. No name tells the channel order: unless `metadata` wrote it down, it is the
    one published with those names."""
    names = set(tensors.names())
    marks = {
        "transformer_blocks.0.attn.to_q.weight": DIFFUSERS,
        "single_transformer_blocks.0.attn.to_q.weight": DIFFUSERS,
        "double_blocks.0.img_attn.qkv.weight": FLUX,
        "single_blocks.0.linear1.weight": FLUX,
        "double_blocks.0.img_attn.q_proj.weight": OPEN_SORA_V2,
        "single_blocks.0.q_proj.weight": OPEN_SORA_V2,
    }
    for mark, layout in marks.items():
        if mark in names:
            return replace(layout, interleaved=_ORDERS.get(tensors.metadata.get(_ORDER, ""), layout.interleaved))
    raise UserError(
        f"{tensors.where} is no checkpoint of an MMDiT, it holds {listing(sorted(names)) or 'nothing'}",
        "give the transformer's weights in the layout of Flux, Open-Sora v2 or diffusers",
    )


def metadata(layout: Layout) -> dict[str, str]:
    """What a file says of its layout where the tensors' names would mislead; nothing for a public one."""
    if layout in LAYOUTS.values():
        return {}
    return {_ORDER: next(order for order, interleaved in _ORDERS.items() if interleaved == layout.interleaved)}


def stacks(layout: Layout, config: MMDiTConfig) -> Iterator[tuple[str, tuple[Piece, ...]]]:
    """Every tensor that a model of `config` may have in that layout, and the pieces stacked in it, in order."""
    norm = "weight" if layout.names == "diffusers" else "scale"
    for layer, parts in _layers(layout, config):
        if layer.rpartition(".")[2] in _NORMS:
            yield f"{layer}.{norm}", tuple(Piece(part, "scale") for part in parts)
            continue
        for kind in ("weight", "bias"):
            yield f"{layer}.{kind}", tuple(Piece(part, kind) for part in parts)


def _layers(layout: Layout, config: MMDiTConfig) -> Iterator[tuple[str, tuple[str, ...]]]:
    if layout.names == "diffusers":
        yield from ((theirs, (ours,)) for ours, theirs in _ENDS.items())
        yield "norm_out.linear", ("final.scale", "final.shift")
        yield from _blocks("transformer_blocks", config.depth, "double", _DIFFUSERS_DOUBLE)
        yield from _blocks("single_transformer_blocks", config.depth_single_blocks, "single", _DIFFUSERS_SINGLE)
    else:
        yield from ((ours, (ours,)) for ours in (*_ENDS, "cond_in"))
        yield "final_layer.adaLN_modulation.1", ("final.shift", "final.scale")
        yield from _blocks("double_blocks", config.depth, "double", _flux_double(layout.fused))
        yield from _blocks("single_blocks", config.depth_single_blocks, "single", _flux_single(layout.fused))


def _blocks(prefix: str, count: int, kind: str, layers: _Layers) -> Iterator[tuple[str, tuple[str, ...]]]:
    for index in range(count):
        for layer, parts in layers.items():
            yield f"{prefix}.{index}.{layer}", tuple(f"{kind}.{index}.{part}" for part in parts)


def _flux_double(fused: bool) -> _Layers:
    layers: _Layers = {}
    for stream in ("img", "txt"):
        q, k, v = (f"{stream}.{role}" for role in "qkv")
        projections: _Layers = {"qkv": (q, k, v)} if fused else {"q_proj": (q,), "k_proj": (k,), "v_proj": (v,)}
        layers |= {f"{stream}_attn.{name}": parts for name, parts in projections.items()}
        layers |= {
            f"{stream}_mod.lin": (f"{stream}.mod",),
            f"{stream}_attn.norm.query_norm": (q,),
            f"{stream}_attn.norm.key_norm": (k,),
            f"{stream}_attn.proj": (f"{stream}.out",),
            f"{stream}_mlp.0": (f"{stream}.mlp",),
            f"{stream}_mlp.2": (f"{stream}.mlp_out",),
        }
    return layers


def _flux_single(fused: bool) -> _Layers:
    projections: _Layers = (
        {"linear1": ("q", "k", "v", "mlp")} if fused else {"q_proj": ("q",), "k_proj": ("k",), "v_mlp": ("v", "mlp")}
    )
    return projections | {
        "linear2": ("out",),
        "norm.query_norm": ("q",),
        "norm.key_norm": ("k",),
        "modulation.lin": ("mod",),
    }
