"""Token change in a run: which of its forms, on which contexts, and what the linear one needs once a run.

The merge builds the mean Jacobian and measures it, so that no two blocks do; blobs keep both for later runs.
"""

from collections.abc import Callable
from functools import lru_cache
from itertools import islice
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

import torch

from schema.blobs import open_blobs
from schema.errors import NotFound
from schema.evidence import Agreement, Calibration, TokenChange
from schema.selection import draw
from schema.store import artifacts
from schema.store.run_features import Brief
from workers import recipes
from workers.batches import Batch
from workers.engine import Context
from workers.ingest import sample_contexts
from workers.methods.calibration import calibrate
from workers.methods.jacobian import Linear, agreement, first_positions, jacobian_rows, linear_token_change
from workers.methods.sequential import representative_first, sequential_token_change
from workers.methods.token_change import check_steering, token_change
from workers.opened import Opened
from workers.sources import corpus_path
from workers.subject import Subject

N_CHANGED_TOKENS = 10
N_COMPARED = 16  # features whose linear change is compared with the exact one: 640 entries of lists
_COMPARED_AT_ONCE = 4  # between signs of life: calibrating more takes longer than a lease on a slow machine


class Scene(NamedTuple):
    """Where token change is measured."""

    context: Context
    brief: Brief
    corpus: str
    opened: Opened


class Strengths(NamedTuple):
    """The strengths (n,) of amplified and of suppressed runs."""

    plus: torch.Tensor
    minus: torch.Tensor


class _Sample(NamedTuple):
    """A sample of contexts, by all that decides it: the corpus is named by its digest as well as by its place."""

    subject: Subject
    path: str
    corpus: str
    n: int
    length: int
    seed: int


def changed_tokens(scene: Scene, directions: torch.Tensor, strengths: Strengths) -> list[TokenChange]:
    """Return the token changes of directions (n, d), in the form that the run asks for."""
    subject, dictionary = scene.opened
    form = scene.brief.spec.options.token_change
    if form == "linear":
        made = linear_token_change(subject, directions, *strengths, _linear(scene), N_CHANGED_TOKENS)
        return list(made)
    steered = token_change if form == "exact" else sequential_token_change
    return steered(subject, directions, dictionary.write_site, *strengths, _contexts(scene), N_CHANGED_TOKENS)


def strengths_of(scene: Scene, calibrations: list[Calibration]) -> Strengths:
    """Return the strengths at the run's largest KL target; where it was not reached, of the strongest effect seen.

    Where the run names a strength it is that, whatever its effect.
    """
    fixed = scene.brief.spec.options.token_change_strength
    if fixed is not None:
        return Strengths(*(torch.full((len(calibrations),), sign * fixed) for sign in (1.0, -1.0)))
    target = max(scene.brief.spec.options.kl_targets)
    return Strengths(*(torch.tensor([_alpha(one, sign * target) for one in calibrations]) for sign in (1, -1)))


def _alpha(calibration: Calibration, target: float) -> float:
    return next(t.alpha for t in calibration.targets if t.target_kl_nats == target)


# --------------------------------------------------------------------------------------------- the linear form


def prepare_linear(scene: Scene) -> None:
    """Build and store the mean Jacobian of the write site, and its agreement with the exact form, as far as missing."""
    brief, corpus = scene.brief, scene.corpus
    _once(scene, recipes.jacobian(brief, corpus), lambda: _build(scene))
    _once(scene, recipes.agreement(brief, corpus), lambda: _measure(scene).model_dump_json().encode())


def _once(scene: Scene, recipe: str, make: Callable[[], bytes]) -> None:
    with scene.context.transaction() as connection:
        known = artifacts.get(connection, recipe)
    if known is not None:
        return
    blob = open_blobs(scene.context.settings).put(make())
    with scene.context.transaction() as connection:
        artifacts.put(connection, recipe, *blob)


def _build(scene: Scene) -> bytes:
    subject, dictionary = scene.opened
    contexts = first_positions(_contexts(scene))

    def rows() -> torch.Tensor:
        found = []
        for some in jacobian_rows(subject, dictionary.write_site, contexts):
            found.append(some)
            scene.context.progress.advance()
        return torch.cat(found)

    jacobian = subject.at_once.fit("traced", contexts.ids.numel(), rows)
    return jacobian.contiguous().cpu().numpy().tobytes()


def _measure(scene: Scene) -> Agreement:
    """Return the mean agreement of a seeded sample of the dictionary's features."""
    subject, dictionary = scene.opened
    site, linear = dictionary.write_site, _jacobian(scene)
    target = max(scene.brief.spec.options.kl_targets)
    sample = list(islice(draw(dictionary.n_features, scene.brief.spec.seed), N_COMPARED))
    parts = []
    for features in torch.split(torch.tensor(sample), _COMPARED_AT_ONCE):
        directions = dictionary.directions(features)
        calibrations = calibrate(subject, site, directions, (target, -target))
        scene.context.progress.advance()
        steering = check_steering(subject, directions, *strengths_of(scene, calibrations), N_CHANGED_TOKENS)
        parts.append(agreement(subject, site, steering, _contexts(scene), linear, N_CHANGED_TOKENS))
        scene.context.progress.advance()
    return _mean(parts)


def _mean(parts: list[Agreement]) -> Agreement:
    weights = [part.n_features for part in parts]
    overlap, cosine = (fmean(values, weights) for values in zip(*((p.overlap, p.cosine) for p in parts), strict=True))
    return Agreement(overlap=overlap, cosine=cosine, n_features=sum(weights))


def _linear(scene: Scene) -> Linear:
    measured = Agreement.model_validate_json(_stored(scene, recipes.agreement(scene.brief, scene.corpus)))
    return _jacobian(scene)._replace(agreement=measured)


def _jacobian(scene: Scene) -> Linear:
    data = bytearray(_stored(scene, recipes.jacobian(scene.brief, scene.corpus)))
    used = first_positions(_contexts(scene))
    matrix = torch.frombuffer(data, dtype=torch.float32).view(scene.opened.subject.d_model, -1)
    return Linear(matrix, used.n_rows, int(used.counted.sum()))


def _stored(scene: Scene, recipe: str) -> bytes:
    with scene.context.transaction() as connection:
        sha256 = artifacts.get(connection, recipe)
    if sha256 is None:
        raise NotFound(f"what linear token change needs of run {scene.brief.run_id} is gone (recipe {recipe})")
    with open_blobs(scene.context.settings).open(sha256) as file:
        return file.read()


# --------------------------------------------------------------------------------------------- contexts


def _contexts(scene: Scene) -> Batch:
    spec = scene.brief.spec
    return _draw(
        _Sample(
            scene.opened.subject,
            str(corpus_path(scene.context, scene.brief)),
            scene.corpus,
            spec.options.token_change_contexts,
            spec.options.token_change_length + 1,  # the sink
            spec.seed,
        )
    )


@lru_cache(maxsize=1)
def _draw(sample: _Sample) -> Batch:
    """Return a sample's contexts, the most representative first, drawn once for all blocks that this process steers."""
    rows = sample_contexts(Path(sample.path), sample.subject, sample.n, sample.length, sample.seed)
    return representative_first(sample.subject, sample.subject.batch(rows))
