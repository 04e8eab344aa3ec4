"""Whether a dictionary fits its subject, and if not, which mistake would explain it.

A wrong layer, hook, scale, normalisation, bias, transposition or threshold shows in how much of the variance is left
over. Here each is undone in turn: where that leaves much less, the mistake is named. It needs no more than a few
thousand tokens, and says nothing of neurons and plain directions, which reconstruct nothing.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from schema.errors import DoesNotFit, UnknownSite
from schema.health import Health, Mistake, Sink, Suspicion
from schema.records import Encoder
from schema.subjects import Site
from workers.dictionary import LoadedDictionary
from workers.methods.reconstruction import Fit, measure_fit
from workers.shapes import in_fixed_shapes
from workers.subject import Subject

N_CONTEXTS, CONTEXT_LENGTH = 32, 128
HELD = frozenset({"saelens", "gemma_scope", "llama_scope", "sparsify", "dictionary_learning"})
"""Formats of trained autoencoders and transcoders: they are held to reconstructing."""

_N_COMPARED = 384  # tokens on which mistakes are undone
_CLEARLY = 0.7  # what is left over with a mistake undone, of what is left over as it stands: certainly a mistake
_FAR_SPARSER = 0.25  # with no more left over: the same
_HARDLY = 0.9  # nothing is reconstructed above it, whatever else was undone
# Of a near layer less is left over in the mean dimension, and on most tokens: residuals of neighbours are much alike,
# and so are their large dimensions, which decide the sum.
_BETTER, _ON_MOST = 0.9, 0.75
_ORDINARY = 0.25  # below it, settings are right; a near layer may still be the wrong one
_COARSE = tuple(2.0**power for power in range(-7, 8) if power)
_FINE = tuple(2.0 ** (power / 8) for power in range(-4, 5) if power)
_THRESHOLDS = (0.0, 1 / 64, 1 / 16, 1 / 4, 4.0, 16.0, 64.0)
_NEAR = 2  # layers
_KINDS = ("resid_pre", "resid_mid", "resid_post", "mlp_in", "mlp_normed", "mlp_out", "attn_out")


class Place(NamedTuple):
    """Where a dictionary reads and writes."""

    read: Site
    write: Site


class _Values(NamedTuple):
    """Values (N, width) of counted positions, and (rows, width) of the first ones."""

    counted: dict[Site, Tensor]
    first: dict[Site, Tensor]


@dataclass(frozen=True)
class _Case:
    """A dictionary with one mistake undone, and the values that it is held against."""

    mistake: Mistake
    suggestion: str
    dictionary: LoadedDictionary
    place: Place


def reconstructs(dictionary: LoadedDictionary) -> bool:
    """Return whether a dictionary is of a kind that reconstructs what it reads or what is written."""
    return dictionary.kind not in ("linear", "neurons")


def examine(dictionary: LoadedDictionary, contexts: Sequence[Sequence[int]]) -> Health:
    """Return how a dictionary does on contexts of token ids, the sink first."""
    place = Place(dictionary.read_site, dictionary.write_site)
    values = _read(dictionary.subject, contexts, set(place))
    n_tokens = len(values.counted[place.read])
    if not reconstructs(dictionary):
        kind = "neurons" if dictionary.kind == "neurons" else "directions"
        verdict = f"{kind} reconstruct nothing that could be compared with the site"
        return Health(n_tokens=n_tokens, fvu=None, l0=None, dead=None, sink=None, verdict=verdict, fits=True)
    fit = _fit(dictionary, place, values.counted)
    suspicions = _suspicions(dictionary, contexts, fit.fvu, place)
    return Health(
        n_tokens=n_tokens,
        fvu=fit.fvu,
        l0=fit.l0,
        dead=1.0 - float(fit.fired.float().mean()),
        sink=_sink(dictionary, place, values),
        suspicions=suspicions,
        verdict=_verdict(dictionary, fit, suspicions),
        fits=_fits(fit, suspicions),
    )


def check_fit(dictionary: LoadedDictionary, contexts: Sequence[Sequence[int]]) -> Health | None:
    """Return the health of a dictionary whose format promises to reconstruct; None of any other. Raises DoesNotFit."""
    if dictionary.spec.source not in HELD or not reconstructs(dictionary):
        return None
    health = examine(dictionary, contexts)
    if not health.fits:
        raise DoesNotFit(health.verdict)
    return health


def _fits(fit: Fit, suspicions: Sequence[Suspicion]) -> bool:
    return fit.fvu < 1.0 and not any(suspicion.certain for suspicion in suspicions)


def _verdict(dictionary: LoadedDictionary, fit: Fit, suspicions: Sequence[Suspicion]) -> str:
    place = f"{dictionary.write_site} of {dictionary.subject.name}"
    if _fits(fit, suspicions):
        said = f"FVU {fit.fvu:.2f}, L0 {fit.l0:.1f}: the dictionary reconstructs {place}"
        doubt = f", but not as well as elsewhere: {suspicions[0].suggestion}" if suspicions else ""
        return said + doubt
    said = f"FVU {fit.fvu:.2f}, L0 {fit.l0:.1f}: the dictionary does not reconstruct {place} as it should"
    if not suspicions:
        return said + "; is it of this model? is a scale of its inputs missing?"
    return f"{said}; wrong {suspicions[0].mistake}: {suspicions[0].suggestion} (FVU {suspicions[0].fvu:.2f})"


def _suspicions(
    dictionary: LoadedDictionary, contexts: Sequence[Sequence[int]], fvu: float, place: Place
) -> tuple[Suspicion, ...]:
    """Return the mistakes that would explain what is left over, the one that leaves least first."""
    wide = fvu > _ORDINARY
    found = _of_places(dictionary, contexts, place, everywhere=wide)
    if found and not wide:
        found = _of_places(dictionary, contexts, place, everywhere=True)
    if wide:
        values = _read(dictionary.subject, contexts, set(place), _N_COMPARED).counted
        found += _undone(dictionary, place, values, _of_settings(dictionary, place, values))
    return _one_each(sorted(found, key=lambda one: (not one.certain, one.fvu if one.certain else one.by_dimension)))


def _of_places(
    dictionary: LoadedDictionary, contexts: Sequence[Sequence[int]], place: Place, everywhere: bool
) -> list[Suspicion]:
    places = list(_other_places(dictionary, place, everywhere))
    sites = {site for pair in (place, *places) for site in pair}
    values = _read(dictionary.subject, contexts, sites, _N_COMPARED).counted
    return _undone(dictionary, place, values, (_of_place(dictionary, place, other) for other in places))


def _undone(
    dictionary: LoadedDictionary, place: Place, values: dict[Site, Tensor], cases: Iterable[_Case]
) -> list[Suspicion]:
    """Return the mistakes that leave less than the dictionary as it stands, when undone."""
    stands = _fit(dictionary, place, values)
    found = []
    for case in cases:
        left = _fit(case.dictionary, case.place, values)
        sparser = left.l0 < _FAR_SPARSER * stands.l0 and left.fvu < min(stands.fvu, _HARDLY)
        certain = sparser or left.fvu < min(_CLEARLY * stands.fvu, _HARDLY)
        on_most = float((left.errors < stands.errors).float().mean()) > _ON_MOST
        if certain or (on_most and left.by_dimension < min(_BETTER * stands.by_dimension, _HARDLY)):
            found.append(
                Suspicion(
                    mistake=case.mistake,
                    suggestion=case.suggestion,
                    fvu=left.fvu,
                    by_dimension=left.by_dimension,
                    certain=certain,
                )
            )
    return found


def _one_each(found: Sequence[Suspicion]) -> tuple[Suspicion, ...]:
    """Return the first suspicion of each mistake."""
    best: dict[Mistake, Suspicion] = {}
    for suspicion in found:
        best.setdefault(suspicion.mistake, suspicion)
    return tuple(best.values())


# ---------------------------------------------------------------------------------------------- mistakes


def _other_places(dictionary: LoadedDictionary, place: Place, everywhere: bool) -> Iterator[Place]:
    """Yield other layers of the same kinds, near ones first, and other kinds at the same layer."""
    facts, layer = dictionary.subject.facts, place.read.layer
    if facts.known is None or layer is None or place.write.layer is None:
        return
    most = facts.known.n_layers if everywhere else _NEAR
    for step in [sign * distance for distance in range(1, most + 1) for sign in (-1, 1)]:
        if 0 <= layer + step < facts.known.n_layers and 0 <= place.write.layer + step < facts.known.n_layers:
            yield Place(Site(place.read.kind, layer + step), Site(place.write.kind, place.write.layer + step))
    same = place.read == place.write
    twins = {"resid_pre", "resid_post"}  # of each other, a layer apart
    for kind in _KINDS:
        if kind != place.read.kind and not {kind, place.read.kind} <= twins:
            site = Site(kind, layer)
            if _width(dictionary.subject, site) == dictionary.subject.width(place.read):
                yield Place(site, site if same else place.write)


def _width(subject: Subject, site: Site) -> int | None:
    try:
        return subject.width(site)
    except UnknownSite:  # parallel blocks have no residual between attention and MLP
        return None


def _of_place(dictionary: LoadedDictionary, place: Place, other: Place) -> _Case:
    mistake: Mistake = "layer" if other.read.kind == place.read.kind else "hook"
    return _Case(mistake, f"did you mean --site {other.read}?", dictionary, other)


def _of_settings(dictionary: LoadedDictionary, place: Place, values: dict[Site, Tensor]) -> Iterator[_Case]:
    encoder = dictionary.spec.encoder
    if encoder.normalize in ("none", "expected_average_only_in"):
        yield _best_scale(dictionary, place, values)
    for norm in ("none", "layer_norm", "constant_norm_rescale"):
        if norm not in (encoder.normalize, "none" if encoder.normalize == "expected_average_only_in" else None):
            changed = encoder.model_copy(update={"normalize": norm, "norm_coefficient": None})
            said = f"does its configuration say normalize_activations={norm}?"
            yield _Case("normalisation", said, dictionary.changed(encoder=changed), place)
    yield from _of_bias(dictionary, place)
    yield from _of_threshold(dictionary, place)
    yield from _of_matrices(dictionary, place)


def _best_scale(dictionary: LoadedDictionary, place: Place, values: dict[Site, Tensor]) -> _Case:
    """Return the dictionary with its inputs scaled as suits it best."""
    encoder = dictionary.spec.encoder
    stands = float(encoder.norm_coefficient or 1.0) if encoder.normalize == "expected_average_only_in" else 1.0

    def left(coefficient: float) -> float:
        return _fit(_scaled(dictionary, coefficient), place, values).fvu

    best = min((stands * factor for factor in _COARSE), key=left)
    best = min((best * factor for factor in (1.0, *_FINE)), key=left)
    said = f"its inputs should be multiplied by about {best:.3g} and not {stands:.3g}: give --norm-coefficient"
    return _Case("scale", said, _scaled(dictionary, best), place)


def _scaled(dictionary: LoadedDictionary, coefficient: float) -> LoadedDictionary:
    changed = {"normalize": "expected_average_only_in", "norm_coefficient": coefficient}
    return dictionary.changed(encoder=dictionary.spec.encoder.model_copy(update=changed))


def _of_bias(dictionary: LoadedDictionary, place: Place) -> Iterator[_Case]:
    encoder: Encoder = dictionary.spec.encoder
    if place.read == place.write and dictionary.tensor("b_dec") is not None:
        changed = encoder.model_copy(update={"subtract_b_dec": not encoder.subtract_b_dec})
        said = f"apply_b_dec_to_input should be {str(changed.subtract_b_dec).lower()}"
        yield _Case("bias", said, dictionary.changed(encoder=changed), place)


def _of_threshold(dictionary: LoadedDictionary, place: Place) -> Iterator[_Case]:
    threshold = dictionary.tensor("threshold")
    for factor in _THRESHOLDS if threshold is not None else ():
        assert threshold is not None
        said = f"its thresholds should be {factor:.3g} times what they are" if factor else "it does better without them"
        yield _Case("threshold", said, dictionary.changed(tensors={"threshold": threshold * factor}), place)


def _of_matrices(dictionary: LoadedDictionary, place: Place) -> Iterator[_Case]:
    """Yield square matrices the other way round, which no shape tells, and both matrices in each other's place."""
    w_enc, w_dec = dictionary.tensor("w_enc"), dictionary.tensor("w_dec")
    if w_enc is None or w_dec is None:
        return
    turned = {}
    for name, matrix in (("w_enc", w_enc), ("w_dec", w_dec)):
        if matrix.shape[0] == matrix.shape[1]:
            turned[name] = matrix.T.contiguous()
            changed = dictionary.changed(tensors={name: turned[name]})
            yield _Case("transposition", f"{name} is transposed", changed, place)
    if len(turned) == 2:
        yield _Case("transposition", "w_enc and w_dec are transposed", dictionary.changed(tensors=turned), place)
    if w_enc.shape == w_dec.shape:
        swapped = dictionary.changed(tensors={"w_enc": w_dec, "w_dec": w_enc})
        yield _Case("transposition", "w_enc and w_dec stand in each other's place", swapped, place)


# ---------------------------------------------------------------------------------------------- measuring


def _fit(dictionary: LoadedDictionary, place: Place, values: dict[Site, Tensor]) -> Fit:
    """Return how well a dictionary reconstructs values, in the dimensions that its decoder reaches (one head's)."""
    columns = _reached(dictionary)

    def decode(activations: Tensor, x: Tensor) -> Tensor:
        return dictionary.decode(activations, x)[..., columns]

    read, written = values[place.read], values[place.write][..., columns]
    return measure_fit(dictionary.encode, decode, read, written, dictionary.n_features)


def _reached(dictionary: LoadedDictionary) -> Tensor | slice:
    w_dec = dictionary.tensor("w_dec")
    reached = (w_dec != 0).any(0) if w_dec is not None else None
    return slice(None) if reached is None or bool(reached.all()) else reached


def _sink(dictionary: LoadedDictionary, place: Place, values: _Values) -> Sink:
    first, counted = values.first[place.read], values.counted[place.read]
    activations = dictionary.encode(first)
    written = values.first[place.write].float()
    error = (written - dictionary.decode(activations, first)).square().sum()
    usual = torch.linalg.vector_norm(counted.float(), dim=-1).median()
    variance = float(values.counted[place.write].float().var(0, correction=0).sum()) * len(first)
    return Sink(
        norm=float(torch.linalg.vector_norm(first.float(), dim=-1).mean() / usual),
        fvu=float(error) / max(variance, 1e-30),
        l0=float((activations > 0).sum(-1).float().mean()),
    )


def _read(subject: Subject, contexts: Sequence[Sequence[int]], sites: set[Site], most: int | None = None) -> _Values:
    """Return the values of sites; of at most so many tokens, from the first contexts."""
    counted: dict[Site, list[Tensor]] = {site: [] for site in sites}
    first: dict[Site, list[Tensor]] = {site: [] for site in sites}
    n_tokens = 0
    for shape, rows in in_fixed_shapes(contexts, len, min(subject.at_once.sizes.tokens, most or 2**30)):
        batch = subject.batch(rows, shape)
        for site, values in subject.read_many(batch, sorted(sites, key=str)).items():
            counted[site].append(values[batch.counted])
            first[site].append(values[: len(rows), 0])
        n_tokens += int(batch.counted.sum())
        if most is not None and n_tokens >= most:
            break
    return _Values(
        {site: torch.cat(parts)[:most] for site, parts in counted.items()},
        {site: torch.cat(parts) for site, parts in first.items()},
    )
