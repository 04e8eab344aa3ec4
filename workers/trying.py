"""The room of trials: what fires on a text, and how a prompt goes on with and without a feature.

The methods are those of runs: encoding as for exemplars, strengths as in calibrations, generation as of steered texts.
"""

import math
from collections.abc import Sequence

import torch

from schema.errors import InvalidInput, TooLarge
from schema.trials import (
    MOST_STRENGTH,
    MOST_TOKENS,
    ActivationsSpec,
    Continuations,
    FeatureActivation,
    SteeredContinuation,
    SteeringSpec,
    TextActivations,
    TokenActivations,
)
from workers.methods.calibration import Curve, Scale, calibrate, scale_of
from workers.methods.steering import GenerationOptions, Row, generate
from workers.methods.top_features import top_features
from workers.opened import Opened
from workers.subject import Subject

_N_ROWS = 9
"""Of a batch: the unsteered text and as many strengths as may be asked for, so that their number changes no text."""


def read_activations(opened: Opened, spec: ActivationsSpec) -> TextActivations:
    """Return the features that are most active on each token of a text.

    Raises: TooLarge, InvalidInput if the text has too many tokens or none; UnknownSite.
    """
    subject, dictionary = opened
    ids = _tokens(subject, "text", spec.text, 0)
    batch = subject.batch([[subject.sink_id, *ids]])
    values = subject.read(batch, dictionary.read_site)[0, 1:]
    found = top_features(dictionary.encode_chunks(values), spec.k)
    counted = batch.counted[0, 1:].tolist()
    rows = zip(subject.pieces(ids), counted, found.activations.tolist(), found.features.tolist(), strict=True)
    return TextActivations(
        tokens=tuple(
            TokenActivations(token=token, features=_active(activations, features) if counts else ())
            for token, counts, activations, features in rows
        )
    )


def _active(activations: Sequence[float], features: Sequence[int]) -> tuple[FeatureActivation, ...]:
    pairs = zip(features, activations, strict=True)
    return tuple(FeatureActivation(index=index, activation=value) for index, value in pairs if 0 < value < math.inf)


def continue_prompt(opened: Opened, feature: int, spec: SteeringSpec) -> Continuations:
    """Return how a prompt goes on under each strength of a feature, and without it.

    All texts draw the same random numbers, so that they differ by the feature alone. Their batch has one shape,
    whatever the number of strengths.
    Raises: TooLarge, InvalidInput if the prompt has too many tokens or none, the feature does nothing or a strength is
            too large; UnknownSite, OutOfMemory.
    """
    subject, dictionary = opened
    prompt = tuple(_tokens(subject, "prompt", spec.prompt, spec.n_tokens))
    directions = dictionary.directions(torch.tensor([feature]))
    found = _strengths(opened, directions, feature, spec)
    alphas = [0.0, *(one.alpha for one in found if one.reached)]
    rows = [Row(prompt, alpha * directions[0], (spec.seed, "trial")) for alpha in alphas]
    options = GenerationOptions(n_tokens=spec.n_tokens, temperature=spec.temperature, n_rows=_N_ROWS)
    written = generate(subject, dictionary.write_site, rows, options)
    unsteered, *texts = ("".join(subject.pieces(ids)) for ids in written)
    remaining = iter(texts)
    steered = (one.model_copy(update={"text": next(remaining)}) if one.reached else one for one in found)
    return Continuations(unsteered=unsteered, steered=tuple(steered))


def _strengths(opened: Opened, directions: torch.Tensor, feature: int, spec: SteeringSpec) -> list[SteeredContinuation]:
    """Return what each strength comes to, without texts. Raises InvalidInput."""
    subject, dictionary = opened
    if not bool(directions.any()):
        raise InvalidInput(f"feature={feature}; its direction is 0, so that no strength steers anything")
    if spec.unit == "kl_nats":
        (calibration,) = calibrate(subject, dictionary.write_site, directions, spec.strengths)
        return [
            SteeredContinuation(
                strength=target.target_kl_nats,
                alpha=target.alpha,
                r=target.r,
                achieved_kl_nats=target.achieved_kl_nats,
                reached=target.reached,
                text=None,
            )
            for target in calibration.targets
        ]
    scale = scale_of(subject, dictionary.write_site, directions)
    return [_strength(scale, strength, spec) for strength in spec.strengths]


def _strength(scale: Scale, strength: float, spec: SteeringSpec) -> SteeredContinuation:
    alpha = strength if spec.unit == "alpha" else scale.alpha(Curve(0, 1), strength)
    r = scale.r(0, alpha)
    if r > (most := MOST_STRENGTH["r"]) * 1.001:
        allowed = scale.alpha(Curve(0, 1), most)
        raise InvalidInput(f"strength {strength:g} {spec.unit}: must be in -{allowed:g}..{allowed:g} for this feature")
    return SteeredContinuation(strength=strength, alpha=alpha, r=r, text=None)


def _tokens(subject: Subject, name: str, text: str, n_new: int) -> list[int]:
    """Return the tokens of a text that fits into a context with n_new more. Raises InvalidInput, TooLarge."""
    ids = subject.tokenize(text)
    most = min(MOST_TOKENS, subject.n_positions - 1) - n_new
    if not ids:
        raise InvalidInput(f"{name}={text[:40]!r} has no token; give some words")
    if len(ids) > most:
        raise TooLarge(f"{name} has {len(ids)} tokens; at most {most} fit into a context of {subject.name} here")
    return ids
