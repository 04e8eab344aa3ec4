"""SAELens folders: cfg.json and sae_weights.safetensors, of versions 6 and later and of the flat ones before.

Read: standard, topk, jumprelu (as which batchtopk and matryoshka are saved), gated, and the transcoders. Every other
architecture, and every setting that would change what is computed and is not known here, is refused by name.
Source: sae_lens/saes/*.py and handle_pre_6_0_config of SAELens 6.54.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from schema.errors import InvalidInput, ShapeMismatch, UnknownSubject
from schema.records import DictionarySpec, Encoder, EncoderKind
from workers.formats.files import Converted, Layout, Spot, Wanted, need, number, read_json, read_tensors, whole
from workers.formats.sites import Sites, site_of_hook

NAME = "a SAELens folder"
CONFIG, WEIGHTS = "cfg.json", "sae_weights.safetensors"
FILES = (CONFIG, WEIGHTS)

_SAE = {
    "W_enc": Spot("w_enc", "dF"),
    "b_enc": Spot("b_enc", "F"),
    "W_dec": Spot("w_dec", "Fd"),
    "b_dec": Spot("b_dec", "d"),
}
_TRANSCODER = _SAE | {"W_dec": Spot("w_dec", "Fw"), "b_dec": Spot("b_dec", "w")}
_THRESHOLD = {"threshold": Spot("threshold", "F")}
_SKIP = {"W_skip": Spot("w_skip", "wd")}
_GATED = {name: Spot(name, "F") for name in ("b_gate", "b_mag", "r_mag")}
_SPOTS: Mapping[str, dict[str, Spot]] = {
    "standard": _SAE,
    "topk": _SAE,
    "jumprelu": _SAE | _THRESHOLD,
    "gated": {name: spot for name, spot in _SAE.items() if name != "b_enc"} | _GATED,
    "transcoder": _TRANSCODER,
    "jumprelu_transcoder": _TRANSCODER | _THRESHOLD,
    "skip_transcoder": _TRANSCODER | _SKIP,
    "jumprelu_skip_transcoder": _TRANSCODER | _THRESHOLD | _SKIP,
}
_KINDS: Mapping[str, EncoderKind] = {
    "standard": "relu",
    "topk": "topk",
    "jumprelu": "jumprelu",
    "gated": "gated",
    "transcoder": "relu",
    "jumprelu_transcoder": "jumprelu",
    "skip_transcoder": "relu",
    "jumprelu_skip_transcoder": "jumprelu",
}
_NORMS = ("none", "expected_average_only_in", "constant_norm_rescale", "layer_norm")
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
    architecture = str(config["architecture"])
    n_features = whole(config, "d_sae")
    encoder = _encoder(config, wanted)
    sizes = {"F": n_features, "d": whole(config, "d_in")}
    if config.get("d_out") is not None and "transcoder" in architecture:
        sizes["w"] = whole(config, "d_out")
    layout = Layout(_SPOTS[architecture] | {"scaling_factor": Spot("scaling", "F")}, optional=("scaling_factor",))
    tensors = _finetuned(layout.take(WEIGHTS, read_tensors(path / WEIGHTS), sizes))
    if config.get("hook_head_index") is not None:
        tensors = _among_heads(tensors, config, wanted)
    sites = _sites(config, wanted)
    spec = DictionarySpec(
        name=wanted.name or path.resolve().name,
        subject=wanted.subject,
        revision=wanted.revision,
        read_site=sites.read,
        write_site=sites.write,
        encoder=encoder,
        n_features=n_features,
        source="saelens",
    )
    found = f"SAELens {architecture}, trained on {config.get('model_name') or 'an unnamed model'}"
    return Converted(spec, tensors, found)


def _unified(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the configuration of any version under the names of version 6, its metadata beside the rest."""
    flat = {_BEFORE_6.get(key, key): value for key, value in config.items() if key != "metadata"}
    metadata = config.get("metadata") or {}
    if not isinstance(metadata, Mapping):
        raise InvalidInput(f"metadata={str(metadata)[:40]!r}; must be an object")
    flat |= metadata
    kwargs = flat.get("activation_fn_kwargs") or {}
    activation = flat.get("activation_fn") or "relu"
    if activation == "topk":
        flat |= {"architecture": "topk", "k": kwargs.get("k", flat.get("k"))}
    elif activation != "relu":
        raise InvalidInput(f"activation_fn={activation!r}; must be relu or topk")
    normalize = flat.get("normalize_activations") or "none"
    if normalize is True:
        normalize = "expected_average_only_in"
    return {"architecture": "standard", "apply_b_dec_to_input": True} | flat | {"normalize_activations": normalize}


def _refuse_unknown(config: Mapping[str, Any]) -> None:
    """Raise InvalidInput for what would change the activations and can't be honoured."""
    if config["architecture"] not in _SPOTS:
        raise InvalidInput(f"architecture={config['architecture']!r}; must be one of {', '.join(_SPOTS)}")
    if config["normalize_activations"] not in _NORMS:
        norm = config["normalize_activations"]
        raise InvalidInput(f"normalize_activations={norm!r}; must be one of {', '.join(_NORMS)}")
    reshape = config.get("reshape_activations") or "none"
    if reshape not in ("none", "hook_z"):
        raise InvalidInput(f"reshape_activations={reshape!r}; must be none or hook_z")
    changed = {k: v for k, v in (config.get("model_from_pretrained_kwargs") or {}).items() if v}
    if changed:
        raise InvalidInput(f"model_from_pretrained_kwargs={changed}; the subject is run as it is: retrain or fold them")


def _sites(config: Mapping[str, Any], wanted: Wanted) -> Sites:
    read = wanted.chosen_site() or site_of_hook(str(need(config, "hook_name")))
    if "transcoder" not in config["architecture"]:
        return Sites(read)
    return Sites(read, site_of_hook(str(need(config, "hook_name_out"))))


def _encoder(config: Mapping[str, Any], wanted: Wanted) -> Encoder:
    architecture, normalize = config["architecture"], config["normalize_activations"]
    kind = _KINDS[architecture]
    coefficient = None
    if normalize == "expected_average_only_in":
        coefficient = wanted.norm_coefficient or config.get("norm_scaling_factor")
        if coefficient is None:
            raise InvalidInput(f"normalize_activations={normalize}; give its factor with --norm-coefficient")
        coefficient = number({"norm_coefficient": coefficient}, "norm_coefficient")
    return Encoder(
        kind=kind,
        k=whole(config, "k") if kind == "topk" else None,
        subtract_b_dec=bool(config["apply_b_dec_to_input"]) and "transcoder" not in architecture,
        normalize=normalize,
        norm_coefficient=coefficient,
        rescale_acts_by_decoder_norm=kind == "topk" and bool(config.get("rescale_acts_by_decoder_norm", False)),
    )


def _finetuned(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors with the factors of a finetuning, which scale what is decoded, in the decoder."""
    scaling = tensors.pop("scaling", None)
    if scaling is None or torch.equal(scaling, torch.ones_like(scaling)):
        return tensors
    return tensors | {"w_dec": tensors["w_dec"] * scaling[:, None]}


def _among_heads(tensors: dict[str, Tensor], config: Mapping[str, Any], wanted: Wanted) -> dict[str, Tensor]:
    """Return the dictionary of one head's output as one of all heads side by side, which sees and moves only that one.

    Raises: InvalidInput where each token is normed, ShapeMismatch where the subject has no such head.
    """
    head, d_head = config["hook_head_index"], tensors["w_enc"].shape[1]
    if wanted.facts is None:
        raise UnknownSubject(f"hook_head_index={head}; where the head lies is known of a subject on this machine only")
    if config["normalize_activations"] in ("constant_norm_rescale", "layer_norm"):
        raise InvalidInput(f"hook_head_index={head} with normalize_activations={config['normalize_activations']}")
    if not str(need(config, "hook_name")).endswith("attn.hook_z"):
        raise InvalidInput(f"hook_head_index={head} of hook_name={config['hook_name']!r}; only attn.hook_z has heads")
    d_heads = wanted.facts.blocks.d_heads
    if not isinstance(head, int) or not 0 <= head < d_heads // d_head or d_heads % d_head:
        raise ShapeMismatch(
            f"hook_head_index={head}, d_in={d_head}; the heads of {wanted.facts.name} are {d_heads} wide"
        )
    padding = (head * d_head, d_heads - (head + 1) * d_head)
    wide = {name: torch.nn.functional.pad(tensors[name], padding) for name in ("w_enc", "w_dec", "b_dec")}
    return tensors | wide
