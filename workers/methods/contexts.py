"""The tokens of contexts, each kept once, however many windows of however many features lie in it."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from schema.errors import NotFound


class Contexts(NamedTuple):
    """Contexts by rising number, on the CPU.

    numbers: (n,) int64
    starts:  (n + 1,) int64, where the tokens of each begin, and the end of all
    tokens:  (starts[n],) int32
    """

    numbers: Tensor
    starts: Tensor
    tokens: Tensor

    @classmethod
    def none(cls) -> "Contexts":
        """Return no contexts."""
        return cls(
            torch.zeros(0, dtype=torch.int64), torch.zeros(1, dtype=torch.int64), torch.zeros(0, dtype=torch.int32)
        )

    @classmethod
    def of(cls, numbers: Tensor, ids: Tensor, attention: Tensor) -> "Contexts":
        """Return the rows of a batch: numbers (B,), ids and attention (B, T), padded on the right."""
        found = cls(numbers.cpu(), _starts(attention.sum(dim=1).cpu()), ids[attention].int().cpu())
        return found._at(found.numbers.argsort())

    @classmethod
    def join(cls, parts: Sequence["Contexts"]) -> "Contexts":
        """Return the contexts of all parts; no context may be in two of them."""
        if not parts:
            return cls(
                *(torch.zeros(n, dtype=kind) for n, kind in ((0, torch.int64), (1, torch.int64), (0, torch.int32)))
            )
        lengths = torch.cat([part.starts.diff() for part in parts])
        numbers, tokens = (torch.cat([part[i] for part in parts]) for i in (0, 2))
        return cls(numbers, _starts(lengths), tokens)._at(numbers.argsort())

    def only(self, numbers: Tensor) -> "Contexts":
        """Return those of the contexts whose numbers are among some, (m,) in any order."""
        return self._at(torch.isin(self.numbers, numbers.cpu()).nonzero().squeeze(1))

    def tokens_of(self, number: int) -> Tensor:
        """Return a context's tokens (T,). Raises NotFound."""
        i = int(torch.searchsorted(self.numbers, number))
        if i == len(self.numbers) or int(self.numbers[i]) != number:
            raise NotFound(f"context {number} is not among the {len(self.numbers)} that are kept")
        return self.tokens[self.starts[i] : self.starts[i + 1]]

    def _at(self, index: Tensor) -> "Contexts":
        """Return the contexts at some places (m,), in that order."""
        lengths = self.starts.diff()[index]
        starts = _starts(lengths)
        shift = (self.starts[:-1][index] - starts[:-1]).repeat_interleave(lengths)
        return Contexts(self.numbers[index], starts, self.tokens[torch.arange(int(starts[-1])) + shift])


def _starts(lengths: Tensor) -> Tensor:
    return torch.cat([lengths.new_zeros(1), lengths.cumsum(dim=0)])
