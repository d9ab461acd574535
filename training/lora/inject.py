"""peft's layers in a network: put in for training, their factors taken out, or merged so that plain layers are left."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from curation.errors import UserError
from training.lora.adapter import Adapter, Factors
from training.lora.base import fingerprint
from training.lora.spec import LoraSpec
from training.lora.targets import chosen
from training.models.mmdit import MMDiT
from training.models.pretrained import missing_package
from training.models.weights import InMemory

if TYPE_CHECKING:
    from peft.tuners.lora import Linear

NAME = "default"
"""peft's name of an adapter that is alone."""


def adapted(model: MMDiT, spec: LoraSpec, seed: int = 0) -> MMDiT:
    """The model with an adapter that does nothing yet, which alone has gradients; changed in place.

    Base weights are frozen in the type they have, factors are float32: an engine makes its masters of them. A is drawn
    from `seed` and the layer's name, as peft draws it (uniform within 1 / sqrt(I)), B is zero. UserError: peft is not
    installed, a rank above a layer's sides.
    """
    names = chosen((name for name, _ in _linears(model)), spec.targets, model.config.fused_qkv)
    _inject(model, names, spec.rank, spec.strength, spec.dropout)
    for name, layer in _adapted_layers(model):
        a_RI, b_OR = _weights(layer)
        bound = a_RI.shape[1] ** -0.5
        drawn_RI = torch.empty(a_RI.shape).uniform_(-bound, bound, generator=_generator(seed, name))
        _fill(layer, Factors(drawn_RI, torch.zeros(b_OR.shape)))
    return model


def attached(model: MMDiT, adapter: Adapter) -> MMDiT:
    """The model with this adapter, to compute with or to train on; changed in place. UserError: it does not fit."""
    adapter.check(InMemory(dict(model.state_dict())))
    _inject(model, tuple(adapter.layers), adapter.rank, adapter.alpha, adapter.dropout)
    for name, layer in _adapted_layers(model):
        _fill(layer, adapter.layers[name])
    return model


def adapter_of(model: MMDiT) -> Adapter:
    """The adapter that is in the model, its factors copied, with the fingerprint of the weights under it."""
    layers = dict(_adapted_layers(model))
    first = next(iter(layers.values()))
    dropout = first.lora_dropout[NAME]
    return Adapter(
        rank=first.r[NAME],
        alpha=float(first.lora_alpha[NAME]),
        dropout=dropout.p if isinstance(dropout, nn.Dropout) else 0.0,
        layers={
            name: Factors(*(weight.detach().float().cpu().clone() for weight in _weights(layer)))
            for name, layer in layers.items()
        },
        base=base_of(model),
    )


def base_of(model: MMDiT) -> str:
    """The fingerprint of the frozen weights, by their names before the adapter."""
    return fingerprint(InMemory(dict(_base_weights(model))))


def plain(model: MMDiT) -> MMDiT:
    """The model with its adapter merged into its weights, and names as before; changed in place."""
    for name, layer in list(_adapted_layers(model)):
        layer.merge()
        owner, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(owner), leaf, layer.get_base_layer())
    model.draws = False
    del model.peft_config
    return model


def factor_names(names: Iterable[str]) -> Mapping[str, tuple[str, str]]:
    """Layer -> the names of A and B, of those parameters of an adapted network that are factors."""
    ends = (f".lora_A.{NAME}.weight", f".lora_B.{NAME}.weight")
    found = [name.removesuffix(ends[0]) for name in names if name.endswith(ends[0])]
    return {layer: (layer + ends[0], layer + ends[1]) for layer in found}


def _inject(model: MMDiT, names: tuple[str, ...], rank: int, alpha: float, dropout: float) -> None:
    linears = dict(_linears(model))
    assert names and not hasattr(model, "peft_config"), "one adapter, on a plain network"
    for name in names:
        least = min(linears[name].weight.shape)
        if rank > least:
            raise UserError(f"lora.rank = {rank} is above {least}, the smaller side of {name}", "give a smaller rank")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of its own packages
            from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise missing_package(error) from error
    config = LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=list(names))  # type: ignore[arg-type]
    model.requires_grad_(False)
    inject_adapter_in_model(config, model, adapter_name=NAME)
    model.train(model.training)  # the new layers begin in training mode
    model.draws = dropout > 0
    for _, layer in _adapted_layers(model):
        layer.lora_A[NAME].float()
        layer.lora_B[NAME].float()


def _linears(model: MMDiT) -> Iterator[tuple[str, nn.Linear]]:
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            yield name, module


def _adapted_layers(model: MMDiT) -> Iterator[tuple[str, Linear]]:
    from peft.tuners.lora import Linear

    for name, module in model.named_modules():
        if isinstance(module, Linear):
            yield name, module


def _weights(layer: Linear) -> Factors:
    a, b = layer.lora_A[NAME].weight, layer.lora_B[NAME].weight
    assert isinstance(a, Tensor) and isinstance(b, Tensor)
    return Factors(a, b)


@torch.no_grad()
def _fill(layer: Linear, factors: Factors) -> None:
    for weight, value in zip(_weights(layer), factors, strict=True):
        weight.copy_(value)


def _base_weights(model: MMDiT) -> Iterator[tuple[str, Tensor]]:
    for name, tensor in model.state_dict().items():
        if ".lora_A." not in name and ".lora_B." not in name:
            yield name.replace(".base_layer.", "."), tensor


def _generator(seed: int, name: str) -> torch.Generator:
    digest = hashlib.sha256(f"lora:{seed}:{name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
