"""One loaded feature dictionary: encode, decode, effective directions, interventions.

Everything is computed in float32. Activations follow SAELens' order: normalise the input, subtract the decoder bias,
encode. It knows neither corpora nor what the features mean.
"""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from schema.errors import BadSelection, BadWeights, ShapeMismatch
from schema.records import Dictionary, DictionarySpec, Encoder
from schema.subjects import Site
from schema.weights import check_encoder, check_weights
from workers.subject import Edit, Reading, Subject

FIRING_QUANTILE = 0.99  # neurons and unthresholded directions fire on their strongest 1 % of tokens
_TOKENS_AT_ONCE = 4096  # of a whole encoding that only serves to know one feature a row
_FEATURES_SORTED_AT_ONCE = 256  # of a sample
_SMALLEST = torch.finfo(torch.float32).tiny
_LAYER_NORM_EPS = 1e-5  # SAELens' run_time_activation_ln_in

FEATURES_AT_ONCE = 4096  # of a chunk
_PRE_ACTIVATIONS_AT_ONCE = 2**25  # of a topk encoder, 128 MiB

Chosen = Tensor | slice  # which features: indices (n,), or a range of them


class Top(NamedTuple):
    """The k largest pre-activations of each token that are positive, else 0: (…, k) values and int64 features."""

    values: Tensor
    indices: Tensor


class LoadedDictionary:
    """A dictionary's tensors on the subject's device.

    threshold: (F,) float32; a feature fires where its activation is larger.
    needs_thresholds: nothing in the dictionary says when a feature fires: `with_threshold` must supply it.
    """

    def __init__(self, spec: DictionarySpec, subject: Subject, tensors: dict[str, Tensor]) -> None:
        self.spec = spec
        self.subject = subject
        self.n_features = spec.n_features
        self.read_site = Site.parse(spec.read_site)
        self.write_site = Site.parse(spec.write_site or spec.read_site)
        self.kind = spec.encoder.kind
        self._tensors = tensors
        self._w_enc = tensors.get("w_enc", tensors.get("w_dec"))
        self._scale = self._constant_scale()
        self.needs_thresholds = self.kind in ("neurons", "linear") and "threshold" not in tensors
        zeros = torch.zeros(self.n_features, device=subject.device)
        self.threshold = tensors["threshold"] if self.kind == "linear" and "threshold" in tensors else zeros

    def with_threshold(self, threshold: Tensor) -> "LoadedDictionary":
        """Return the same dictionary, firing above threshold (F,). Raises ShapeMismatch."""
        if threshold.shape != (self.n_features,):
            raise ShapeMismatch(f"threshold={tuple(threshold.shape)}; must be ({self.n_features},)")
        other = LoadedDictionary(self.spec, self.subject, self._tensors)
        other.threshold = threshold.to(self.subject.device, torch.float32)
        other.needs_thresholds = False
        return other

    def changed(
        self, encoder: Encoder | None = None, tensors: Mapping[str, Tensor] | None = None
    ) -> "LoadedDictionary":
        """Return the same dictionary with other settings or some other tensors, which are not checked."""
        spec = self.spec if encoder is None else self.spec.model_copy(update={"encoder": encoder})
        return LoadedDictionary(spec, self.subject, {**self._tensors, **(tensors or {})})

    def tensor(self, name: str) -> Tensor | None:
        """Return a tensor of the canonical form, None where the dictionary has none of this name."""
        return self._tensors.get(name)

    # ------------------------------------------------------------------------------------------ activations

    def encode(self, x: Tensor, features: Tensor | None = None) -> Tensor:
        """Return activations (…, F), or (…, n) of some features, of read-site values x (…, width).

        Costs O(n) for all encoders but topk, which needs all pre-activations to know the largest.
        """
        chosen = slice(None) if features is None else _as_slice(self._checked(features))
        if self.kind == "topk":
            return self._top_k(self._pre_activations(self._normalised(x), slice(None)))[..., chosen]
        if self.kind == "neurons":
            return x[..., chosen].float()
        return self._activate(self._pre_activations(self._normalised(x), chosen), chosen)

    def encode_chunks(self, x: Tensor) -> Iterator[tuple[int, Tensor]]:
        """Yield (first feature, activations (…, n)) of all features in order, of read-site values x (…, width).

        Never holds more than a chunk of features, and of a topk encoder the largest of each token. The next chunk may
        overwrite this one.
        """
        if self.kind == "topk":
            yield from self._top_chunks(x)
            return
        for low in range(0, self.n_features, FEATURES_AT_ONCE):
            yield low, self.encode(x, torch.arange(low, min(low + FEATURES_AT_ONCE, self.n_features), device=x.device))

    def _top_chunks(self, x: Tensor) -> Iterator[tuple[int, Tensor]]:
        n_tokens = max(1, _PRE_ACTIVATIONS_AT_ONCE // self.n_features)
        z = torch.split(self._normalised(x).flatten(0, -2), n_tokens)
        parts = [self._top(self._pre_activations(tokens, slice(None))) for tokens in z]
        values, indices = (torch.cat(tensors).view(*x.shape[:-1], -1) for tensors in zip(*parts, strict=True))
        at_once = min(FEATURES_AT_ONCE, self.n_features)
        memory = torch.empty(x.shape[:-1].numel() * at_once, device=x.device)
        for low in range(0, self.n_features, at_once):
            n = min(at_once, self.n_features - low)
            inside = (indices >= low) & (indices < low + n)
            chunk = memory[: x.shape[:-1].numel() * n].view(*x.shape[:-1], n).zero_()
            yield low, chunk.scatter_add_(-1, (indices - low).clamp(0, n - 1), values * inside)

    def encode_rows(self, x: Tensor, features: Tensor) -> Tensor:
        """Return activations (B, T) of values x (B, T, width), where features (B,) says which one a row is about."""
        features = self._checked(features)
        if len(features) != len(x):
            raise ShapeMismatch(f"features={len(features)}; x has {len(x)} rows")
        if self.kind == "topk":
            n_rows = max(1, _TOKENS_AT_ONCE // x.shape[1])
            parts = zip(torch.split(x, n_rows), torch.split(features, n_rows), strict=True)
            return torch.cat([_pick(self.encode(rows), wanted) for rows, wanted in parts])
        if self.kind == "neurons":
            return _pick(x, features).float()
        z = self._normalised(x)
        pre = torch.einsum("btd,bd->bt", z, self._encoder_rows(features)) + self._pre_bias(features)[:, None]
        if self.spec.encoder.rescale_acts_by_decoder_norm:
            pre = pre * self._decoder_norms(features)[:, None]
        return self._activate(pre.T, features).T

    def _normalised(self, x: Tensor) -> Tensor:
        """Return what the encoder's weights see: x normed as the dictionary asks, less b_dec."""
        encoder = self.spec.encoder
        z = x.float()
        if encoder.normalize == "layer_norm":
            z = (z - z.mean(-1, keepdim=True)) / (self._input_scale(z)[..., None] + _LAYER_NORM_EPS)
        elif encoder.normalize == "constant_norm_rescale":
            z = z / self._input_scale(z)[..., None]
        elif encoder.normalize == "expected_average_only_in":
            z = z * float(encoder.norm_coefficient or 1.0)
        return z - self._tensors["b_dec"] if encoder.subtract_b_dec else z

    def _pre_activations(self, z: Tensor, features: Chosen) -> Tensor:
        pre = torch.nn.functional.linear(z, self._encoder_rows(features), self._pre_bias(features))
        if self.spec.encoder.rescale_acts_by_decoder_norm:
            pre *= self._decoder_norms(features)
        return pre

    def _activate(self, pre: Tensor, features: Chosen) -> Tensor:
        """Return activations of pre-activations (…, n) by a rule that looks at one feature at a time; may overwrite."""
        if self.kind == "gated":
            # SAELens' gated SAE: the same rows, scaled by exp(r_mag), give the magnitude of what the gate lets pass.
            projection = pre - self._of("b_gate", features)
            magnitude = projection * self._of("r_mag", features).exp() + self._of("b_mag", features)
            return torch.relu(magnitude) * (pre > 0)
        if self.kind in ("jumprelu", "batchtopk"):
            pre.masked_fill_(pre <= self._of("threshold", features), 0.0)
        return pre.relu_()

    def _top_k(self, pre: Tensor) -> Tensor:
        top = self._top(pre)
        return torch.zeros_like(pre).scatter_(-1, top.indices, top.values)

    def _top(self, pre: Tensor) -> Top:
        values, indices = pre.topk(int(self.spec.encoder.k or 1), dim=-1)
        return Top(torch.relu(values), indices)

    # ------------------------------------------------------------------------------------------ directions

    def directions(self, features: Tensor) -> Tensor:
        """Return effective write directions (n, d), float32: what one unit of activation adds where it is written.

        For dictionaries that norm each token, that is to be multiplied by `token_scale`; `add` and `set` do so.
        """
        features = self._checked(features)
        if self.kind == "neurons":
            return self.subject.unit_directions(self.write_site)[features]
        rows = self._tensors["w_dec"][features]
        return self.subject.effective_directions(self.write_site, rows * self._scaled(features))

    def decoder(self) -> Tensor:
        """Return decoder rows (F, width) in the write site's own space, scaled as `decode` uses them."""
        if self.kind == "neurons":
            return torch.eye(self.n_features, device=self.subject.device)
        return self._tensors["w_dec"] * self._scaled(slice(None))

    def decode(self, activations: Tensor, x: Tensor | None = None) -> Tensor:
        """Return the write site's values (…, width) that activations (…, F) stand for.

        x: (…, width) the read-site values; needed where each token is normed, and for what a transcoder passes on.
        Raises: ShapeMismatch without it.
        """
        if self.kind == "neurons":
            return activations.float()
        scale = 1.0 if self._scale is None else self._scale  # of activations, so that rows need not be copied
        written: Tensor = (activations.float() * scale / self._coefficient) @ self._tensors["w_dec"]
        if "b_dec" in self._tensors:
            written = written + self._tensors["b_dec"] / float(self._coefficient)
        if "w_skip" in self._tensors:
            written = written + _given(x, "w_skip").float() @ self._tensors["w_skip"].T
        if not self.scales_tokens:
            return written
        x = _given(x, self.spec.encoder.normalize)
        mean = x.float().mean(-1, keepdim=True) if self.spec.encoder.normalize == "layer_norm" else 0.0
        return written * self.token_scale(x)[..., None] + mean

    @property
    def scales_tokens(self) -> bool:
        """Return whether each token is normed before it is encoded, so that directions have a scale a token.

        What a transcoder writes is not scaled back: it is of another site than what was normed.
        """
        return self.write_site == self.read_site and self.spec.encoder.normalize in (
            "layer_norm",
            "constant_norm_rescale",
        )

    def token_scale(self, x: Tensor) -> Tensor:
        """Return the scale (…,) of what is written at each token, given its read-site value x (…, width)."""
        return self._input_scale(x) if self.scales_tokens else torch.ones_like(x[..., 0], dtype=torch.float32)

    def _input_scale(self, x: Tensor) -> Tensor:
        """Return the scale (…,) by which each token's value x (…, width) is divided before it is encoded."""
        wide = x.float()
        if self.spec.encoder.normalize == "layer_norm":
            return wide.std(-1)
        return _norms(wide) / math.sqrt(wide.shape[-1])

    # ------------------------------------------------------------------------------------------ interventions

    def add(self, features: Tensor, strengths: Tensor, mask: Tensor | None = None) -> Edit:
        """Return y' = y + α · w_i, with feature features[b] and α = strengths[b] in row b."""
        directions = self.directions(features)
        if not self.scales_tokens:
            return Edit.add(self.write_site, directions, strengths, mask)

        def coefficients(x: Tensor, alphas: Tensor) -> Tensor:
            return alphas[:, None] * self.token_scale(x)

        return Edit(self.write_site, directions, strengths, mask, Reading(self.read_site, coefficients))

    def set(self, features: Tensor, values: Tensor, mask: Tensor | None = None) -> Edit:
        """Return y' = y + (α - a_i(x)) · w_i: decoding with a_i := α, plus the reconstruction error."""

        def coefficients(x: Tensor, alphas: Tensor) -> Tensor:
            return (alphas[:, None] - self.encode_rows(x, features)) * self.token_scale(x)

        reading = Reading(self.read_site, coefficients)
        return Edit(self.write_site, self.directions(features), values, mask, reading)

    # ------------------------------------------------------------------------------------------ tensors

    @property
    def _coefficient(self) -> float:
        scaled = self.spec.encoder.normalize == "expected_average_only_in"
        return float(self.spec.encoder.norm_coefficient or 1.0) if scaled else 1.0

    def _constant_scale(self) -> Tensor | None:
        """Return the factor of each decoder row that is the same for all tokens, (F,) or None."""
        if not self.spec.encoder.rescale_acts_by_decoder_norm:
            return None
        return 1.0 / self._decoder_norms(slice(None))

    def _scaled(self, features: Chosen) -> Tensor | float:
        if self._scale is None:
            return 1.0 / self._coefficient
        return self._scale[features][:, None] / self._coefficient

    def _decoder_norms(self, features: Chosen) -> Tensor:
        return _norms(self._tensors["w_dec"][features])

    def _encoder_rows(self, features: Chosen) -> Tensor:
        assert self._w_enc is not None  # only neurons have none, and they are not encoded
        return self._w_enc[features]

    def _pre_bias(self, features: Chosen) -> Tensor:
        return self._of("b_gate" if self.kind == "gated" else "b_enc", features)

    def _of(self, name: str, features: Chosen) -> Tensor:
        """Return the entries (n,) of a tensor (F,); zeros where an optional one is missing."""
        tensor = self._tensors.get(name)
        if tensor is None:
            tensor = torch.zeros(self.n_features, device=self.subject.device)
        return tensor[features]

    def _checked(self, features: Tensor) -> Tensor:
        if len(features) and not 0 <= int(features.min()) <= int(features.max()) < self.n_features:
            raise BadSelection(
                f"features={int(features.min())}..{int(features.max())}; {self.spec.name} has 0..{self.n_features - 1}"
            )
        return features.to(self.subject.device)


def load_dictionary(
    record: Dictionary | DictionarySpec, subject: Subject, weights_path: Path | None
) -> LoadedDictionary:
    """Return a dictionary on a subject, its weights checked.

    weights_path: canonical safetensors; None for neurons, which have none.
    Raises: UnknownSite, ShapeMismatch, NotFinite, BadWeights.
    """
    spec = record.spec if isinstance(record, Dictionary) else record
    d_read = subject.width(Site.parse(spec.read_site))
    d_write = subject.width(Site.parse(spec.write_site or spec.read_site))
    if spec.encoder.kind == "neurons":
        return _load_neurons(spec, subject, d_read, d_write)
    if weights_path is None:
        raise BadWeights(f"weights=None; a dictionary with a {spec.encoder.kind} encoder needs a weights file")
    check_weights(weights_path, spec, d_read, d_write)
    return LoadedDictionary(spec, subject, _read_tensors(weights_path, subject.device))


def firing_thresholds(activations: Tensor) -> Tensor:
    """Return the threshold (F,) above which each feature counts as firing, from a sample of activations (N, F).

    It is the upper 1 % quantile, and always positive: one polarity a feature. A feature that is positive on fewer
    tokens than that fires wherever it is positive.
    Raises: ShapeMismatch for an empty sample.
    """
    if activations.ndim != 2 or len(activations) == 0:
        raise ShapeMismatch(f"activations={tuple(activations.shape)}; must be (N, F) with N at least 1")
    rank = max(1, round(FIRING_QUANTILE * len(activations)))
    parts = [
        part.T.contiguous().float().kthvalue(rank).values
        for part in torch.split(activations, _FEATURES_SORTED_AT_ONCE, 1)
    ]
    return torch.cat(parts).clamp_min(_SMALLEST)


def _load_neurons(spec: DictionarySpec, subject: Subject, d_read: int, d_write: int) -> LoadedDictionary:
    check_encoder(spec)
    if not spec.n_features == d_read == d_write:
        raise ShapeMismatch(f"n_features={spec.n_features}; {spec.read_site} of {subject.name} has {d_read} neurons")
    return LoadedDictionary(spec, subject, {})


def _read_tensors(path: Path, device: torch.device) -> dict[str, Tensor]:
    from safetensors import safe_open

    with safe_open(path, framework="pt", device=str(device)) as file:
        return {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118 - not a dict


def _given(x: Tensor | None, why: str) -> Tensor:
    if x is None:
        raise ShapeMismatch(f"x=None; decoding with {why} needs the values that were read")
    return x


def _as_slice(features: Tensor) -> Chosen:
    """Return features without gaps as a slice, which selects rows of weights without copying them."""
    if len(features) and bool((features.diff() == 1).all()):
        return slice(int(features[0]), int(features[-1]) + 1)
    return features


def _norms(x: Tensor) -> Tensor:
    """Return norms (…,) of vectors (…, d), never 0."""
    norms: Tensor = torch.linalg.vector_norm(x, dim=-1)
    return norms.clamp_min(_SMALLEST)


def _pick(activations: Tensor, features: Tensor) -> Tensor:
    """Return (B, T) of (B, T, F): entry features[b] of row b."""
    index = features[:, None, None].expand(-1, activations.shape[1], 1)
    return activations.gather(-1, index)[..., 0]
