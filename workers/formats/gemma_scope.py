"""Gemma Scope: params.npz, without a configuration; site and width are in the path.

`…gemma-scope-2b-pt-res/layer_20/width_16k/average_l0_71/params.npz`: residual (res), MLP output (mlp), heads (att), or
a transcoder. JumpReLU; the decoder's bias is not subtracted from the input. Names may be lower-case.
Source: gemma_2_sae_huggingface_loader and gemma_2_transcoder_huggingface_loader of SAELens 6.54.
"""

import math
import re
from pathlib import Path

from schema.errors import UnknownSite
from schema.records import DictionarySpec, Encoder
from workers.formats.arrays import read_archive
from workers.formats.files import Converted, Layout, Spot, Wanted
from workers.formats.sites import Sites

NAME = "Gemma Scope's params.npz"
WEIGHTS = "params.npz"
FILES = (WEIGHTS,)

_NAMES = {"W_enc": "W_enc", "w_enc": "W_enc", "W_dec": "W_dec", "w_dec": "W_dec"}
_NAMES |= {name: name for name in ("b_enc", "b_dec", "threshold")}
_KINDS = {"res": "resid_post", "mlp": "mlp_out", "att": "attn_heads"}


def recognises(path: Path) -> bool:
    """Return whether a path is a folder with params.npz, or an .npz file."""
    return (path / WEIGHTS).is_file() or (path.is_file() and path.suffix == ".npz")


def convert(path: Path, wanted: Wanted) -> Converted:
    """Return a JumpReLU dictionary in canonical form. Raises UnknownSite where the path does not say of which site."""
    file = path if path.is_file() else path / WEIGHTS
    place = "/".join(file.absolute().parts)
    sites = _sites(place, wanted)
    written = "d" if sites.write is None else "w"
    layout = Layout(
        {
            "W_enc": Spot("w_enc", "dF"),
            "b_enc": Spot("b_enc", "F"),
            "W_dec": Spot("w_dec", "F" + written),
            "b_dec": Spot("b_dec", written),
            "threshold": Spot("threshold", "F"),
        }
    )
    tensors = layout.take(file.name, read_archive(file, _NAMES), {})
    if "/embedding/" in place:  # of embeddings before the model scales them, which it does by the root of their width
        scale = math.sqrt(tensors["w_enc"].shape[1])
        tensors |= {"w_enc": tensors["w_enc"] / scale, "w_dec": tensors["w_dec"] * scale}
    spec = DictionarySpec(
        name=wanted.name or _name(place, file),
        subject=wanted.subject,
        revision=wanted.revision,
        read_site=sites.read,
        write_site=sites.write,
        encoder=Encoder(kind="jumprelu"),
        n_features=len(tensors["b_enc"]),
        source="gemma_scope",
    )
    return Converted(spec, tensors, "Gemma Scope " + ("transcoder" if sites.write else "JumpReLU"))


def _sites(place: str, wanted: Wanted) -> Sites:
    if "transcoder" in place:
        layer = wanted.layer if wanted.layer is not None else _layer(place)
        return Sites(wanted.chosen_site() or f"mlp_normed.{layer}", f"mlp_out.{layer}")
    if (chosen := wanted.chosen_site()) is not None:
        return Sites(chosen)
    if "/embedding/" in place:
        return Sites("resid_pre.0")
    kind = re.search(r"-(res|mlp|att)(?=[/-])", place)
    if kind is None:
        raise UnknownSite(
            f"path={place[-80:]!r}; says no site: it must hold gemma-scope-…-res, -mlp, -att or -transcoders, or "
            "name the site with --site, such as resid_post.20"
        )
    return Sites(f"{_KINDS[kind[1]]}.{_layer(place)}")


def _layer(place: str) -> int:
    found = re.search(r"/layer_(\d+)/", place)
    if found is None:
        raise UnknownSite(f"path={place[-80:]!r}; says not which layer: it must hold layer_N, or name it with --site")
    return int(found[1])


def _name(place: str, file: Path) -> str:
    found = re.search(r"(?:layer_\d+|embedding)/width_\w+(?:/\w+)?(?=/)", place)
    return found[0].replace("/", " ") if found else file.absolute().parent.name
