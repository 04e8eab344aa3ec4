"""Llama Scope: hyperparams.json and checkpoints/final.safetensors.

JumpReLU with one threshold for all features, in units of inputs that are scaled to a mean norm of √d.
Source: llama_scope_sae_huggingface_loader of SAELens 6.54, which reads what was released.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from schema.errors import InvalidInput
from schema.records import DictionarySpec, Encoder
from workers.formats.files import Converted, Layout, Spot, Wanted, need, number, read_json, read_tensors, whole
from workers.formats.sites import Sites, site_of_hook

NAME = "a Llama Scope folder"
CONFIG, WEIGHTS = "hyperparams.json", "checkpoints/final.safetensors"
FILES = (CONFIG, WEIGHTS)


def recognises(path: Path) -> bool:
    """Return whether a path is a folder of Llama Scope."""
    return (path / CONFIG).is_file()


def convert(path: Path, wanted: Wanted) -> Converted:
    """Return a dictionary of Llama Scope in canonical form. Raises InvalidInput naming what it can't honour."""
    config = read_json(path / CONFIG)
    _refuse_unknown(config)
    sites = _sites(config, wanted)
    written = "d" if sites.write is None else "w"
    layout = Layout(
        {
            "encoder.weight": Spot("w_enc", "Fd"),
            "encoder.bias": Spot("b_enc", "F"),
            "decoder.weight": Spot("w_dec", written + "F"),
            "decoder.bias": Spot("b_dec", written),
        }
    )
    d, n_features = whole(config, "d_model"), whole(config, "d_sae")
    tensors = layout.take(WEIGHTS, read_tensors(path / WEIGHTS), {"F": n_features, "d": d})
    norms = need(config, "dataset_average_activation_norm")
    scale = math.sqrt(d) / number(norms, "in")
    if sites.write is not None:  # what a transcoder writes is scaled by the norm of where it writes
        ratio = scale * number(norms, "out") / math.sqrt(tensors["w_dec"].shape[1])
        tensors |= {name: tensors[name] * ratio for name in ("w_dec", "b_dec")}
    threshold = number(config, "jump_relu_threshold") * scale
    tensors["threshold"] = torch.full((n_features,), threshold)
    spec = DictionarySpec(
        name=wanted.name or path.resolve().name,
        subject=wanted.subject,
        revision=wanted.revision,
        read_site=sites.read,
        write_site=sites.write,
        encoder=Encoder(kind="jumprelu", normalize="expected_average_only_in", norm_coefficient=scale),
        n_features=n_features,
        source="llama_scope",
    )
    return Converted(spec, tensors, "Llama Scope JumpReLU")


def _refuse_unknown(config: Mapping[str, Any]) -> None:
    wanted = {"act_fn": "jumprelu", "norm_activation": "dataset-wise", "use_glu_encoder": False}
    wanted |= {"apply_decoder_bias_to_pre_encoder": False}
    for key, value in wanted.items():
        if config.get(key, value) != value:
            raise InvalidInput(f"{key}={config[key]!r}; must be {value!r}")


def _sites(config: Mapping[str, Any], wanted: Wanted) -> Sites:
    hook_in = str(need(config, "hook_point_in"))
    hook_out = str(config.get("hook_point_out") or hook_in)
    read = wanted.chosen_site() or site_of_hook(hook_in)
    return Sites(read, None if hook_out == hook_in else site_of_hook(hook_out))
