"""Which features of a dictionary a run is about: the text form, and what it means.

`all` · `alive` · `0-9,12` · `random:24:0` (24 features, seed 0). Draws with one seed are prefixes of one another, so
`random:24:0` is contained in the pool of 32 that seed 0 draws.
"""

import itertools
import random
import re
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

from schema.errors import BadSelection

_FORMS = "use all, alive, ranges such as 0-9,12, or random:N:SEED"


class Selection(NamedTuple):
    """A parsed selection; `indices` is None where only the corpus can tell (`alive`)."""

    kind: Literal["all", "alive", "listed", "random"]
    indices: Sequence[int] | None


def parse_selection(text: str, n_features: int) -> Selection:
    """Return what a selection means for a dictionary of n_features.

    Raises: BadSelection for an unknown form or an index that the dictionary does not have.
    """
    stripped = text.strip()
    if stripped == "all":
        return Selection("all", range(n_features))
    if stripped == "alive":
        return Selection("alive", None)
    if stripped.startswith("random:"):
        return Selection("random", _random(stripped, n_features))
    return Selection("listed", _listed(stripped, n_features))


def as_text(indices: Sequence[int]) -> str:
    """Return indices as a selection, in as few ranges as there are: `0-9,12`."""
    ordered = sorted(set(indices))
    runs = (list(run) for _, run in itertools.groupby(enumerate(ordered), lambda pair: pair[1] - pair[0]))
    ends = ((run[0][1], run[-1][1]) for run in runs)
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in ends)


def draw(n_features: int, seed: int) -> Iterator[int]:
    """Yield every feature once in a seeded order; a shorter draw is a prefix of a longer one."""
    generator = random.Random(seed)
    seen: set[int] = set()
    while len(seen) < n_features // 2:
        index = generator.randrange(n_features)
        if index not in seen:
            seen.add(index)
            yield index
    rest = [index for index in range(n_features) if index not in seen]
    generator.shuffle(rest)
    yield from rest


def _random(text: str, n_features: int) -> list[int]:
    match = re.fullmatch(r"random:(\d{1,9}):(\d{1,9})", text)
    if match is None:
        raise BadSelection(f"features={text!r} is not of the form random:N:SEED")
    count, seed = int(match[1]), int(match[2])
    if not 1 <= count <= n_features:
        raise BadSelection(f"features={text!r} asks for {count}; the dictionary has {n_features}")
    return sorted(itertools.islice(draw(n_features, seed), count))


def _listed(text: str, n_features: int) -> list[int]:
    chosen: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,9})(?:\s*-\s*(\d{1,9}))?\s*", part)
        if match is None:
            raise BadSelection(f"features={part.strip()[:60]!r} is not understood; {_FORMS}")
        low, high = int(match[1]), int(match[2] or match[1])
        if low > high or high >= n_features:
            raise BadSelection(f"features={part.strip()!r}; must be within 0..{n_features - 1}, smallest first")
        chosen.update(range(low, high + 1))
    return sorted(chosen)
