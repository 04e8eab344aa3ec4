"""EleutherAI's sparsify: `<hookpoint>/cfg.json` and `sae.safetensors`, autoencoders and transcoders, all of them topk.

The folder is called after the module whose output it is of. `multi_topk` is a matter of training alone.
Source: sparsify/sparse_coder.py and fused_encoder.py of eai-sparsify 1.3.
"""

from pathlib import Path

from schema.errors import InvalidInput
from schema.records import DictionarySpec, Encoder
from workers.formats.files import Converted, Layout, Spot, Wanted, read_json, read_tensors, whole
from workers.formats.sites import Sites, sites_of_module

NAME = "a sparsify folder"
CONFIG, WEIGHTS = "cfg.json", "sae.safetensors"
FILES = (CONFIG, WEIGHTS)

_SPOTS = {
    "encoder.weight": Spot("w_enc", "Fd"),
    "encoder.bias": Spot("b_enc", "F"),
    "W_dec": Spot("w_dec", "Fd"),
    "b_dec": Spot("b_dec", "d"),
}


def recognises(path: Path) -> bool:
    """Return whether a path is a folder of sparsify."""
    return (path / CONFIG).is_file() and (path / WEIGHTS).is_file()


def convert(path: Path, wanted: Wanted) -> Converted:
    """Return a sparse coder in canonical form. Raises InvalidInput naming what it can't honour."""
    config = read_json(path / CONFIG)
    if (activation := config.get("activation", "topk")) != "topk" or config.get("signed"):
        said = "signed=true" if config.get("signed") else f"activation={activation!r}"
        raise InvalidInput(f"{said}; must be topk of positive activations")
    transcodes, skips = bool(config.get("transcode")), bool(config.get("skip_connection"))
    d = whole(config, "d_in")
    n_features = config.get("num_latents") or d * whole(config, "expansion_factor")
    layout = Layout(_SPOTS | ({"W_skip": Spot("w_skip", "wd")} if skips else {}))
    tensors = layout.take(WEIGHTS, read_tensors(path / WEIGHTS), {"F": n_features, "d": d, "w": d})
    sites = _sites(path, wanted, transcodes)
    spec = DictionarySpec(
        name=wanted.name or path.resolve().name,
        subject=wanted.subject,
        revision=wanted.revision,
        read_site=sites.read,
        write_site=sites.write,
        encoder=Encoder(kind="topk", k=whole(config, "k"), subtract_b_dec=not transcodes),
        n_features=n_features,
        source="sparsify",
    )
    return Converted(spec, tensors, "sparsify " + ("transcoder" if transcodes else "autoencoder"))


def _sites(path: Path, wanted: Wanted, transcodes: bool) -> Sites:
    chosen = wanted.chosen_site()
    if chosen is not None and not transcodes:
        return Sites(chosen)
    named = sites_of_module(path.resolve().name, transcodes, wanted.facts)
    return named if chosen is None else named._replace(read=chosen)
