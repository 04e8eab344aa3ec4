"""An autoencoder planted in a tiny subject, as SAELens saves one, and the mistakes that can be made with it.

A feature is a token: its decoder row is the token's mean value at the site, less the mean of all; its encoder row is
what answers 1 on it and 0 on others, by least squares. As many tokens as the site is wide, so that its matrices are
square and no shape tells when one is transposed.
"""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from schema.subjects import Site
from tests.dictionary_files import saelens_config, save_saelens
from tests.tiny import D_MODEL, tiny_corpus
from workers.subject import Subject

LAYER = 2
HOOK = f"blocks.{LAYER}.hook_resid_post"
THRESHOLD = 0.5


def tiny_contexts(subject: Subject, n: int = 48) -> list[list[int]]:
    """Return contexts of token ids, the sink first."""
    return [[subject.sink_id, *subject.tokenize(text)][:64] for text in tiny_corpus(n, seed=3)]


def save_planted(folder: Path, subject: Subject) -> Path:
    """Save the autoencoder of a subject to a folder, and return the folder."""
    ids, values = _values(subject, tiny_contexts(subject))
    common = [token for token, _ in Counter(ids.tolist()).most_common(D_MODEL)]
    b_dec = values.mean(0)
    w_dec = torch.stack([values[ids == token].mean(0) for token in common]) - b_dec
    w_enc = _answering(values - b_dec, (ids[:, None] == torch.tensor(common)).float())
    tensors = {"W_enc": w_enc, "b_enc": torch.zeros(D_MODEL), "W_dec": w_dec, "b_dec": b_dec}
    tensors["threshold"] = torch.full((D_MODEL,), THRESHOLD)
    said = {"apply_b_dec_to_input": True, "normalize_activations": "none"}
    return save_saelens(folder, saelens_config(D_MODEL, D_MODEL, HOOK, "jumprelu", **said), tensors)


def mistaken(source: Path, folder: Path, mistake: str, **said: Any) -> Path:
    """Save a copy of a folder of SAELens with a mistake made in it, and return its folder."""
    config = json.loads((source / "cfg.json").read_text())
    tensors = load_file(source / "sae_weights.safetensors")
    match mistake:
        case "layer" | "hook":
            config["metadata"]["hook_name"] = said["hook"]
        case "scale":  # trained on inputs that were multiplied, and nobody says so
            factor = said["factor"]
            tensors |= {name: tensors[name] * factor for name in ("W_dec", "b_dec")}
            tensors["W_enc"] = tensors["W_enc"] / factor
        case "bias":
            config["apply_b_dec_to_input"] = not config["apply_b_dec_to_input"]
        case "normalisation":
            config["normalize_activations"] = "layer_norm"
        case "transposition":
            tensors[said["name"]] = tensors[said["name"]].T
        case "swap":
            w_enc, w_dec = tensors["W_enc"], tensors["W_dec"]
            tensors |= {"W_enc": w_dec.T, "W_dec": w_enc.T}
        case "threshold":
            tensors["threshold"] = tensors["threshold"] * said["factor"]
        case _:
            raise ValueError(mistake)
    return save_saelens(folder, config, tensors)


def _answering(values: Tensor, targets: Tensor) -> Tensor:
    """Return columns (d, F) whose products with values (N, d) are nearest to targets (N, F), and 1 on average on 1."""
    gram = values.T @ values
    columns = torch.linalg.solve(gram + 0.01 * gram.diagonal().mean() * torch.eye(len(gram)), values.T @ targets)
    return columns / ((values @ columns * targets).sum(0) / targets.sum(0))


def _values(subject: Subject, contexts: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Return the tokens (N,) of counted positions and their values (N, d) at the site."""
    batch = subject.batch(contexts)
    values = subject.read(batch, Site("resid_post", LAYER))
    return batch.ids[batch.counted], values[batch.counted].float()
