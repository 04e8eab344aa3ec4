"""SAELens folders: cfg.json and sae_weights.safetensors, of versions 6 and later and of the flat ones before.

Read: standard, topk and jumprelu (as which batchtopk and matryoshka are saved). Every other architecture, and every
setting that would change what is computed and is not known here, is refused by name.
Source: sae_lens/saes/*.py and handle_pre_6_0_config of SAELens 6.18.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from schema.errors import BadWeights, InvalidInput, ShapeMismatch, UnknownSite
from schema.records import DictionarySpec, Encoder
from workers.formats.files import Converted, Wanted, need, read_json, read_tensors

CONFIG, WEIGHTS = "cfg.json", "sae_weights.safetensors"
_KINDS = {"standard": "relu", "topk": "topk", "jumprelu": "jumprelu"}
_HOOKS = {
    "hook_resid_pre": "resid_pre",
    "hook_resid_mid": "resid_mid",
    "hook_resid_post": "resid_post",
    "hook_mlp_in": "mlp_in",
    "hook_mlp_out": "mlp_out",
    "hook_attn_out": "attn_out",
    "attn.hook_z": "attn_heads",
    "mlp.hook_post": "mlp_hidden",
    "ln2.hook_normalized": "mlp_normed",
}
_BEFORE_6 = {
    "hook_point": "hook_name",
    "hook_point_head_index": "hook_head_index",
    "activation_fn_str": "activation_fn",
}


def recognises(path: Path) -> bool:
    """Return whether a path is a SAELens folder."""
    return (path / CONFIG).is_file() and (path / WEIGHTS).is_file()


def convert(path: Path, wanted: Wanted) -> Converted:
    """Return a SAELens folder in canonical form. Raises InvalidInput naming what it can't honour."""
    config = _unified(read_json(path / CONFIG))
    _refuse_unknown(config)
    tensors = read_tensors(path / WEIGHTS)
    spec = DictionarySpec(
        name=wanted.name or path.resolve().name,
        subject=wanted.subject,
        revision=wanted.revision,
        read_site=wanted.chosen_site() or site_of_hook(str(need(config, "hook_name"))),
        encoder=_encoder(config, wanted),
        n_features=int(need(config, "d_sae")),
        source="saelens",
    )
    found = f"SAELens {config['architecture']}, trained on {config.get('model_name') or 'an unnamed model'}"
    return Converted(spec, _canonical(tensors, config["architecture"]), found)


def site_of_hook(hook: str) -> str:
    """Return the site that TransformerLens calls `hook`. Raises UnknownSite."""
    found = re.fullmatch(r"blocks\.(\d+)\.(.+)", hook)
    if not found or found[2] not in _HOOKS:
        known = ", ".join(f"blocks.L.{name}" for name in _HOOKS)
        raise UnknownSite(f"hook_name={hook!r}; must be one of {known}, or name the site with --site")
    return f"{_HOOKS[found[2]]}.{int(found[1])}"


def _unified(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the configuration of any version under the names of version 6, its metadata beside the rest."""
    flat = {_BEFORE_6.get(key, key): value for key, value in config.items() if key != "metadata"}
    flat |= config.get("metadata") or {}
    activation = flat.get("activation_fn", "relu")
    if activation == "topk":
        flat |= {"architecture": "topk", "k": (flat.get("activation_fn_kwargs") or {}).get("k", flat.get("k"))}
    elif activation != "relu":
        raise InvalidInput(f"activation_fn={activation!r}; must be relu or topk")
    normalize = flat.get("normalize_activations") or "none"
    if normalize is True:
        normalize = "expected_average_only_in"
    return {"architecture": "standard", "apply_b_dec_to_input": True} | flat | {"normalize_activations": normalize}


def _refuse_unknown(config: Mapping[str, Any]) -> None:
    """Raise InvalidInput for what would change the activations and can't be honoured."""
    if config["architecture"] not in _KINDS:
        raise InvalidInput(f"architecture={config['architecture']!r}; must be one of {', '.join(_KINDS)}")
    if config.get("hook_head_index") is not None:
        raise InvalidInput(f"hook_head_index={config['hook_head_index']}; a dictionary of one head can't be read")
    reshape = config.get("reshape_activations") or "none"
    if reshape not in ("none", "hook_z"):
        raise InvalidInput(f"reshape_activations={reshape!r}; must be none or hook_z")
    changed = {k: v for k, v in (config.get("model_from_pretrained_kwargs") or {}).items() if v}
    if changed:
        raise InvalidInput(f"model_from_pretrained_kwargs={changed}; the subject is run as it is: retrain or fold them")


def _encoder(config: Mapping[str, Any], wanted: Wanted) -> Encoder:
    normalize = config["normalize_activations"]
    coefficient = None
    if normalize == "expected_average_only_in":
        coefficient = wanted.norm_coefficient or config.get("norm_scaling_factor")
        if coefficient is None:
            raise InvalidInput(f"normalize_activations={normalize}; give its factor with --norm-coefficient")
    return Encoder.model_validate(
        {
            "kind": _KINDS[config["architecture"]],
            "k": int(need(config, "k")) if config["architecture"] == "topk" else None,
            "subtract_b_dec": bool(config["apply_b_dec_to_input"]),
            "normalize": normalize,
            "norm_coefficient": coefficient,
            "rescale_acts_by_decoder_norm": bool(config.get("rescale_acts_by_decoder_norm", False)),
        }
    )


def _canonical(tensors: Mapping[str, Tensor], architecture: str) -> dict[str, Tensor]:
    names = ["W_enc", "b_enc", "W_dec", "b_dec", *(["threshold"] if architecture == "jumprelu" else [])]
    if missing := [name for name in names if name not in tensors]:
        raise BadWeights(f"missing={', '.join(missing)}; {WEIGHTS} of architecture {architecture} must have it")
    if unknown := sorted(tensors.keys() - {*names, "scaling_factor"}):
        raise BadWeights(
            f"unknown={', '.join(unknown)}; {WEIGHTS} of architecture {architecture} has {', '.join(names)}"
        )
    if tensors["W_enc"].ndim != 2:
        raise ShapeMismatch(f"W_enc={list(tensors['W_enc'].shape)}; must be [d_in, d_sae]")
    canonical = {name.lower(): tensors[name] for name in names} | {"w_enc": tensors["W_enc"].T}
    scaling = tensors.get("scaling_factor", torch.ones(()))
    if not torch.equal(scaling, torch.ones_like(scaling)):  # finetuned: activations are scaled before they are decoded
        canonical["w_dec"] = tensors["W_dec"] * scaling[:, None]
    return canonical
