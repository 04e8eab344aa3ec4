"""Where the sites of a subject are: module names by architecture, and taps at which hooks read and write.

Knows no forward pass and sets no hook. An architecture is added by one line in LAYOUTS, its name in schema/subjects.py
and a line in tests/workers/test_subject.py, which compares every site of a tiny random model with hand-written
arithmetic. Without that a model works too, through workers/module_paths.py.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, cast

import torch
from torch import Tensor, nn

from schema.errors import UnknownSite, UnknownSubject
from schema.subjects import MODULE, Site, SubjectFacts, width


@dataclass(frozen=True)
class Layout:
    """Module names of an architecture. Paths after `final_norm` are relative to a block.

    *_post_norm: the norm between a sublayer and the residual, where there is one (Gemma 2 and 3).
    gain_offset: what a norm adds to its weight (Gemma stores the gain less one).
    """

    blocks: str
    final_norm: str
    attention: str
    attention_projection: str
    mlp: str
    mlp_projection: str
    mlp_norm: str
    attention_post_norm: str | None = None
    mlp_post_norm: str | None = None
    gain_offset: float = 0.0


_LLAMA = Layout(
    blocks="model.layers",
    final_norm="model.norm",
    attention="self_attn",
    attention_projection="self_attn.o_proj",
    mlp="mlp",
    mlp_projection="mlp.down_proj",
    mlp_norm="post_attention_layernorm",
)
_GEMMA_2 = replace(
    _LLAMA,
    mlp_norm="pre_feedforward_layernorm",
    attention_post_norm="post_attention_layernorm",
    mlp_post_norm="post_feedforward_layernorm",
    gain_offset=1.0,
)
_GPT2 = Layout(
    blocks="transformer.h",
    final_norm="transformer.ln_f",
    attention="attn",
    attention_projection="attn.c_proj",
    mlp="mlp",
    mlp_projection="mlp.c_proj",
    mlp_norm="ln_2",
)
_GPT_NEOX = Layout(
    blocks="gpt_neox.layers",
    final_norm="gpt_neox.final_layer_norm",
    attention="attention",
    attention_projection="attention.dense",
    mlp="mlp",
    mlp_projection="mlp.dense_4h_to_h",
    mlp_norm="post_attention_layernorm",
)
LAYOUTS: Mapping[str, Layout] = {
    "gemma2": _GEMMA_2,
    "gemma3_text": _GEMMA_2,
    "gpt2": _GPT2,
    "gpt_neox": _GPT_NEOX,
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "qwen2": _LLAMA,
    "qwen3": _LLAMA,
}


@dataclass(frozen=True)
class Tap:
    """One side of a module: what goes in (its first argument) or what comes out (the first element of a tuple).

    normed: the value is the norm's input, normed but without gain and bias.
    """

    module: nn.Module
    side: Literal["input", "output"]
    normed: bool = False


def module_tap(model: nn.Module, name: str, site: Site) -> Tap:
    """Return where the output of a module is read and written, by its path in a model. Raises UnknownSite."""
    try:
        return Tap(model.get_submodule(str(site.path)), "output")
    except AttributeError as exc:
        raise UnknownSite(f"site={site}; {name} has no such module: {exc}") from exc


class Anatomy:
    """The modules of one loaded subject, by what they are."""

    def __init__(self, model: nn.Module, facts: SubjectFacts) -> None:
        self.model = model
        self.facts = facts
        self.layout = LAYOUTS[facts.model_type]
        try:
            self.blocks = list(cast(nn.ModuleList, model.get_submodule(self.layout.blocks)))
            self.final_norm = model.get_submodule(self.layout.final_norm)
        except AttributeError as exc:
            raise UnknownSubject(f"subject={facts.name!r}; is no {facts.model_type} as we know it: {exc}") from exc

    def entry(self, layer: int) -> Tap:
        """Return where the residual enters block `layer`, or the final norm at layer n_layers. Raises UnknownSite."""
        if not 0 <= layer <= len(self.blocks):
            raise UnknownSite(f"layer={layer}; {self.facts.name} has residuals at 0..{len(self.blocks)}")
        return Tap([*self.blocks, self.final_norm][layer], "input")

    def read_tap(self, site: Site) -> Tap:
        """Return where a site is read. Raises UnknownSite."""
        if site.kind == MODULE:
            return module_tap(self.model, self.facts.name, site)
        layer = self._layer(site)
        match site.kind:
            case "resid_pre":
                return self.entry(layer)
            case "resid_post":
                return self.entry(layer + 1)
            case "resid_mid":
                return Tap(self._in_block(layer, self.layout.mlp_norm), "input")
            case "mlp_normed":
                return Tap(self._in_block(layer, self.layout.mlp_norm), "input", normed=True)
            case "mlp_in":
                return Tap(self._in_block(layer, self.layout.mlp), "input")
            case "mlp_hidden":
                return Tap(self._in_block(layer, self.layout.mlp_projection), "input")
            case "attn_heads":
                return Tap(self._in_block(layer, self.layout.attention_projection), "input")
            case "attn_out":
                return self._attention_out(layer)
            case _:
                return self._mlp_out(layer)

    def write_taps(self, site: Site) -> tuple[Tap, ...]:
        """Return where an intervention at a site is added: the same vector at every tap. Raises UnknownSite.

        `resid_mid` is no module's output: the vector goes into the MLP's norm and, past the MLP, into the residual.
        """
        if site.kind == MODULE:
            return (self.read_tap(site),)
        layer = self._layer(site)
        match site.kind:
            case "resid_pre" | "resid_post":
                return (self.read_tap(site),)
            case "resid_mid":
                return (self.read_tap(site), self._mlp_out(layer))
            case "mlp_in" | "mlp_normed":
                return (Tap(self._in_block(layer, self.layout.mlp), "input"),)
            case "attn_out" | "attn_heads":
                return (self._attention_out(layer),)
            case _:
                return (self._mlp_out(layer),)

    def entry_layer(self, site: Site) -> int:
        """Return the last layer from which a resumed forward still passes the site."""
        if site.kind == MODULE:
            return self._module_layer(str(site.path))
        layer = self._layer(site)
        return layer + 1 if site.kind == "resid_post" else layer

    def write_matrix(self, site: Site) -> Tensor | None:
        """Return the (width, d) map from the site's space to where it is written, float32; None for the identity.

        The projection of heads or neurons, then the gain of the norm after it; for `mlp_normed` the gain before it.
        """
        layout = self.layout
        match site.kind:
            case "mlp_hidden":
                return self._projected(site, layout.mlp_projection, layout.mlp_post_norm)
            case "attn_heads":
                return self._projected(site, layout.attention_projection, layout.attention_post_norm)
            case "mlp_normed":
                return torch.diag(self.gain(self._in_block(self._layer(site), layout.mlp_norm)))
            case _:
                return None

    def norm_direction(self, x: Tensor) -> Tensor:
        """Return directions (…, d_model) after the final norm without its bias, float32."""
        return normed(x.float(), self.final_norm) * self.gain(self.final_norm)

    def gain(self, norm: nn.Module) -> Tensor:
        """Return a norm's gain (d,), float32."""
        return cast(Tensor, norm.weight).detach().float() + self.layout.gain_offset

    def _projected(self, site: Site, projection: str, post_norm: str | None) -> Tensor:
        layer = self._layer(site)
        module = self._in_block(layer, projection)
        weight = cast(Tensor, module.weight).detach().float()
        matrix = weight.T if isinstance(module, nn.Linear) else weight  # GPT-2's Conv1D is stored (in, out)
        return matrix if post_norm is None else matrix * self.gain(self._in_block(layer, post_norm))

    def _attention_out(self, layer: int) -> Tap:
        return Tap(self._in_block(layer, self.layout.attention_post_norm or self.layout.attention), "output")

    def _mlp_out(self, layer: int) -> Tap:
        return Tap(self._in_block(layer, self.layout.mlp_post_norm or self.layout.mlp), "output")

    def _in_block(self, layer: int, path: str) -> nn.Module:
        return self.blocks[layer].get_submodule(path)

    def _layer(self, site: Site) -> int:
        width(self.facts, site)
        return cast(int, site.layer)

    def _module_layer(self, path: str) -> int:
        if (path + ".").startswith(self.layout.final_norm + "."):
            return len(self.blocks)
        inside = re.match(re.escape(self.layout.blocks) + r"\.(\d+)", path)
        return int(inside[1]) if inside else 0


def normed(x: Tensor, norm: nn.Module) -> Tensor:
    """Return x (…, d) as the norm divides it, without gain and bias; computed in float32, in x's dtype."""
    wide = x.float()
    eps = float(cast(float, getattr(norm, "eps", None) or getattr(norm, "variance_epsilon", 0.0)))
    if isinstance(norm, nn.LayerNorm):
        wide = wide - wide.mean(-1, keepdim=True)
    return (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)).to(x.dtype)
