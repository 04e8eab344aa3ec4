"""Token change in its three forms: exact, sequential, linear."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from schema.evidence import TokenChange
from tests.benchmarks.acting import N, added, directions
from tests.benchmarks.measure import Row, faster, race, timed
from tests.benchmarks.setting import SITE, beginnings, opened
from workers.batches import Batch
from workers.methods.interventions import mean_norm
from workers.methods.jacobian import Linear, agreement, first_positions, jacobian_rows, linear_token_change
from workers.methods.sequential import representative_first, sequential_token_change
from workers.methods.token_change import Steering, token_change

_K = 10
_N_COMPARED = 16
_R = 0.3  # of the mean residual: on the real dictionary KL 0.5 nats is reached at 0.22 to 0.44

_Plain = list[tuple[Tensor, Tensor]]


class _Asked(NamedTuple):
    """What is steered in the benchmark: directions (n, d), their strengths (n,), and the contexts."""

    directions: Tensor
    strengths: Tensor
    contexts: Batch


def exact() -> Iterator[Row]:
    """Yield the speed of exact token change against one feature at a time, with the same lists."""
    yield _against_plain("exact", _exact, 3.3)


def sequential() -> Iterator[Row]:
    """Yield the speed of sequential token change against the same loop, and its overlap with the exact lists."""
    yield _against_plain("sequential", _sequential, 5.0)


def linear() -> Iterator[Row]:
    """Yield the speed of linear token change of all features against the sequential one, with and without its build."""
    subject, dictionary = opened()
    everyone, some = _asked(dictionary.n_features), _asked(N)
    build_s, built = timed(lambda: _built(representative_first(subject, some.contexts)))
    linear_s, _ = timed(lambda: list(linear_token_change(subject, *_signed(everyone), built, k=_K)))
    sequential_s, _ = timed(lambda: _sequential(some))
    few = Steering(*(part[:_N_COMPARED] for part in _signed(some)))
    measured = agreement(subject, SITE, few, some.contexts, built, k=_K)
    alike = f"{measured.overlap:.0%} of list entries as in the exact one, cosine {measured.cosine:.2f}"
    n, other_s = dictionary.n_features, sequential_s * dictionary.n_features / N
    against = f"the sequential one, a feature; J is built in {build_s:.0f} s"
    yield faster(f"token change, linear ({alike}), J included", (build_s + linear_s, other_s), 15.0, against, n)
    yield faster("token change, linear, J cached", (linear_s, other_s), 100.0, against, n)


def _asked(n: int) -> _Asked:
    subject, _ = opened()
    contexts, steered = subject.batch(beginnings(32, 33)), directions(n)
    return _Asked(steered, _R * mean_norm(subject, SITE, contexts) / steered.norm(dim=1), contexts)


def _signed(asked: _Asked) -> tuple[Tensor, Tensor, Tensor]:
    return asked.directions, asked.strengths, -asked.strengths


def _exact(asked: _Asked) -> list[TokenChange]:
    subject, _ = opened()
    return token_change(subject, asked.directions, SITE, asked.strengths, -asked.strengths, asked.contexts, k=_K)


def _sequential(asked: _Asked) -> list[TokenChange]:
    subject, _ = opened()
    contexts = representative_first(subject, asked.contexts)
    return sequential_token_change(subject, asked.directions, SITE, asked.strengths, -asked.strengths, contexts, k=_K)


def _built(contexts: Batch) -> Linear:
    subject, _ = opened()
    used = first_positions(contexts)
    return Linear(torch.cat(list(jacobian_rows(subject, SITE, used))), used.n_rows, int(used.counted.sum()))


# ------------------------------------------------------------------------------------------------- the plain loop


def _against_plain(name: str, form: Callable[[_Asked], list[TokenChange]], least: float) -> Row:
    """Return the row of a form against one feature at a time, with the share of list entries that are the same."""
    asked = _asked(N)
    found: list[TokenChange] = []
    known: _Plain = []
    seconds = race(lambda: found.extend(form(asked)), lambda: known.extend(_plain(asked)), rounds=1)
    same = f"{_overlap(found, known):.0%} of list entries the same"
    n_contexts = sum(change.n_contexts for change in found) / len(found)
    return faster(f"token change, {name} ({same}, {n_contexts:.0f} contexts)", seconds, least, "a plain loop", N)


def _plain(asked: _Asked) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield each feature's mean changes of logits, amplified and suppressed, by whole forwards with full logits."""
    subject, _ = opened()
    contexts = asked.contexts
    for direction, alpha in zip(asked.directions, asked.strengths.tolist(), strict=True):
        clean = subject.unembed(subject.hidden(contexts))[contexts.counted]
        edits = [added(direction, sign * alpha, contexts.n_rows) for sign in (1, -1)]
        plus, minus = (subject.unembed(subject.hidden(contexts, edit))[contexts.counted] for edit in edits)
        yield (plus - clean).mean(dim=0), (minus - clean).mean(dim=0)


def _overlap(ours: Sequence[TokenChange], plain: _Plain) -> float:
    """Return the share of the tokens in our lists that the plain loop has among its strongest."""
    hits = 0
    for mine, (plus, minus) in zip(ours, plain, strict=True):
        lists = (mine.amplified_raised, mine.amplified_lowered, mine.suppressed_raised, mine.suppressed_lowered)
        for found, values in zip(lists, (plus, -plus, minus, -minus), strict=True):
            hits += len(set(found.ids) & set(values.topk(_K).indices.tolist()))
    return hits / (4 * _K * len(ours))
