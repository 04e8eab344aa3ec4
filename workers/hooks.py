"""Interventions, and the hooks that read and write the subject: the only place that sets forward hooks.

Every context manager here takes its hooks away again, whatever happens inside.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from schema.errors import ShapeMismatch, UnknownSite
from schema.subjects import Site
from workers.architecture import Tap, normed


@dataclass(frozen=True)
class Reading:
    """What an edit depends on, besides strength: the value of a site in the same forward.

    coefficients: takes x (B, T, width) and strengths (B,), returns (B, T): multiples of each row's direction.
    """

    site: Site
    coefficients: Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Edit:
    """An intervention at a write site, one feature a row: y' = y + coefficient · direction.

    directions: (B, d) effective write directions, in the space that the site is written in.
    strengths:  (B,) α; the coefficient itself unless there is a reading.
    mask:       (B, T) bool, the positions that are steered; None is all but position 0. Every step is steered.
    """

    site: Site
    directions: Tensor
    strengths: Tensor
    mask: Tensor | None = None
    reading: Reading | None = None

    @classmethod
    def add(cls, site: Site, directions: Tensor, strengths: Tensor, mask: Tensor | None = None) -> "Edit":
        """Return y' = y + α · w."""
        return cls(site, directions, strengths, mask)

    @classmethod
    def set(
        cls,
        site: Site,
        directions: Tensor,
        values: Tensor,
        read_site: Site,
        activations: Callable[[Tensor], Tensor],
        mask: Tensor | None = None,
    ) -> "Edit":
        """Return y' = y + (α - a(x_read)) · w, with activations: x (B, T, width) -> (B, T), one feature a row."""

        def coefficients(x: Tensor, strengths: Tensor) -> Tensor:
            return strengths[:, None] - activations(x)

        return cls(site, directions, values, mask, Reading(read_site, coefficients))


class Shift:
    """The vector that an edit adds, at every tap of its site in one forward."""

    def __init__(self, edit: Edit, mask: Tensor | None) -> None:
        self._edit = edit
        self._mask = mask
        self._seen: Tensor | None = None

    def see(self, x: Tensor) -> None:
        """Take the value of the site that the edit reads."""
        self._seen = x

    def __call__(self, y: Tensor) -> Tensor:
        """Return the site's value (B, T, d) under the edit, in its dtype."""
        edit = self._edit
        if edit.directions.shape[-1] != y.shape[-1]:
            raise ShapeMismatch(f"direction={edit.directions.shape[-1]}; {edit.site} is written with {y.shape[-1]}")
        coefficients = self._coefficients(y) * self._steered(y)
        shift = coefficients[..., None] * edit.directions.to(y.device, torch.float32)[:, None]
        return (y.float() + shift).to(y.dtype)

    def _coefficients(self, y: Tensor) -> Tensor:
        strengths = self._edit.strengths.to(y.device, torch.float32)
        if self._edit.reading is None:
            return strengths[:, None]
        if self._seen is None:
            raise UnknownSite(f"site={self._edit.reading.site}; is not read before {self._edit.site} is written")
        return self._edit.reading.coefficients(self._seen, strengths)

    def _steered(self, y: Tensor) -> Tensor:
        if self._mask is not None:
            return self._mask.to(y.device, torch.float32)
        steered = torch.ones(y.shape[:2], device=y.device)
        steered[:, 0] = 0.0
        return steered


@contextmanager
def reading(tap: Tap, take: Callable[[Tensor], None]) -> Iterator[None]:
    """Show what passes a tap."""

    def look(x: Tensor) -> None:
        take(normed(x, tap.module) if tap.normed else x)

    def before(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        look(_input(args, kwargs))

    def after(_module: nn.Module, _args: Any, out: Any) -> None:
        look(out if isinstance(out, Tensor) else out[0])

    with _hooked(tap, before, after):
        yield


@contextmanager
def writing(tap: Tap, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Replace what passes a tap."""

    def before(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        return _with_input(args, kwargs, change(_input(args, kwargs)))

    def after(_module: nn.Module, _args: Any, out: Any) -> Any:
        return change(out) if isinstance(out, Tensor) else (change(out[0]), *out[1:])

    with _hooked(tap, before, after):
        yield


@contextmanager
def _hooked(tap: Tap, before: Callable[..., Any], after: Callable[..., Any]) -> Iterator[None]:
    if tap.side == "input":
        handle = tap.module.register_forward_pre_hook(before, with_kwargs=True)
    else:
        handle = tap.module.register_forward_hook(after)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def skipping(blocks: Sequence[nn.Module]) -> Iterator[None]:
    """Let blocks return their input."""
    for block in blocks:
        block.forward = _pass_through
    try:
        yield
    finally:
        for block in blocks:
            del block.forward


def _pass_through(hidden_states: Tensor, *_args: Any, **_kwargs: Any) -> Tensor:
    return hidden_states


def _input(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor:
    return cast(Tensor, args[0] if args else kwargs["hidden_states"])


def _with_input(args: tuple[Any, ...], kwargs: dict[str, Any], x: Tensor) -> tuple[Any, dict[str, Any]]:
    return ((x, *args[1:]), kwargs) if args else (args, kwargs | {"hidden_states": x})
