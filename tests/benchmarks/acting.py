"""The output side: vocabulary projection, batches of interventions, subsets of features."""

from collections.abc import Iterator

import torch
from torch import Tensor

from tests.benchmarks.measure import Row, at_most, faster, race
from tests.benchmarks.setting import SITE, beginnings, opened, random_tensors
from workers.dictionary import LoadedDictionary
from workers.methods.vocabulary import Neighbours, Readout, normed_directions, project_vocabulary
from workers.subject import Edit

N = 64
_VOCABULARY_BLOCK = 1024  # features: the largest product of the plain side


def directions(n: int = N) -> Tensor:
    """Return the directions of the first n features."""
    return opened().dictionary.directions(torch.arange(n))


def added(direction: Tensor, alpha: float, n_rows: int) -> Edit:
    """Return the edit that adds one direction in all rows."""
    return Edit.add(SITE, direction.expand(n_rows, -1), torch.full((n_rows,), alpha))


# ------------------------------------------------------------------------------------------------ vocabulary projection


def vocabulary() -> Iterator[Row]:
    """Yield the speed of the projection of all features, lists included, against the matrix product alone."""
    subject, dictionary = opened()
    everyone = directions(dictionary.n_features)
    nobody = Neighbours(torch.full((len(everyone), 1), -1), torch.zeros(len(everyone), 1))
    readout = Readout(subject.norm_direction, subject.unembedding, subject.token_strings)
    hidden, unembedding = normed_directions(everyone, subject.norm_direction), subject.unembedding.float()

    def bare() -> None:
        product = torch.empty(_VOCABULARY_BLOCK, len(unembedding))
        for rows in torch.split(hidden, _VOCABULARY_BLOCK):
            torch.mm(rows, unembedding.T, out=product[: len(rows)])

    def ours() -> None:
        for _ in project_vocabulary(everyone, readout, nobody, k=50):
            pass

    seconds = race(ours, bare, rounds=5)
    yield faster("vocabulary projection", seconds, 0.70, "one dense product of the same size", len(everyone))


# ------------------------------------------------------------------------------------------------------------- batches


def batches() -> Iterator[Row]:
    """Yield the price of a batch of 256 rows of 256 different features against the same batch unsteered."""
    subject, _ = opened()
    rows = beginnings(256, 16)
    batch = subject.batch(rows)
    edit = Edit.add(SITE, directions(len(rows)), torch.ones(len(rows)))
    steered, bare = race(lambda: subject.hidden(batch, edit), lambda: subject.hidden(batch), rounds=5)
    yield at_most("a steered batch of 256 features", steered, bare, 1.3, "s", "the same batch unsteered")


def subsets() -> Iterator[Row]:
    """Yield the price of encoding an eighth of the features against an eighth of the price of all."""
    subject, dictionary = opened()
    encoder = dictionary.spec.encoder.model_copy(update={"kind": "relu", "k": None})
    spec = dictionary.spec.model_copy(update={"encoder": encoder})
    relu = LoadedDictionary(spec, subject, random_tensors(4096, torch.zeros(subject.d_model)))
    x = torch.randn(4096, subject.d_model)
    part, whole = race(lambda: relu.encode(x, torch.arange(512)), lambda: relu.encode(x, torch.arange(4096)), rounds=5)
    yield at_most("encode of 512 of 4,096 features", part, whole / 8, 1.5, "s", "an eighth of encoding all")
