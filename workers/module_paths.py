"""The sites of a subject whose architecture has no layout: its modules' outputs, by their paths in the model.

Such a subject always runs whole: where its blocks begin and end is not known here. Nor is what a module's output means;
a path is taken at its word. A module that runs more than once in a forward is read at the first and written at every.
"""

import copy
from contextlib import ExitStack
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from schema.errors import UnknownSite
from schema.subjects import MODULE, Site, SubjectFacts
from workers.architecture import Tap, module_tap
from workers.hooks import reading


class ModulePaths:
    """What `Anatomy` is for an architecture with a layout, as far as it can be without one."""

    def __init__(self, model: nn.Module, facts: SubjectFacts) -> None:
        self.model = model
        self.facts = facts
        self.blocks: list[nn.Module] = []
        self._last_norm = _last_norm(model)

    def entry(self, _layer: int) -> Tap:
        """Return where a whole forward begins: at the token embeddings."""
        return Tap(cast(Any, self.model).get_input_embeddings(), "output")

    def read_tap(self, site: Site) -> Tap:
        """Return where a site is read. Raises UnknownSite, with paths to choose from, unless it is a module path."""
        if site.kind == MODULE:
            return module_tap(self.model, self.facts.name, site)
        paths = [f"{MODULE}:{name}" for name, _ in self.model.named_modules() if ".0" in name]
        raise UnknownSite(
            f"site={site}; the architecture {self.facts.model_type!r} of {self.facts.name} has no named sites here; "
            f"give a module's path, such as {', '.join(paths[:3])}"
        )

    def write_taps(self, site: Site) -> tuple[Tap, ...]:
        """Return where an intervention at a site is added. Raises UnknownSite."""
        return (self.read_tap(site),)

    def entry_layer(self, site: Site) -> int:
        """Return 0: a forward passes every site only if it runs whole. Raises UnknownSite."""
        self.read_tap(site)
        return 0

    def write_matrix(self, site: Site) -> Tensor | None:
        """Return None: a module is written in the space that it is read in. Raises UnknownSite."""
        self.read_tap(site)
        return None

    @torch.no_grad()
    def norm_direction(self, x: Tensor) -> Tensor:
        """Return directions (…, d) after the last norm without its bias, float32; as they are without such a norm.

        Half of norm(x) - norm(-x): that has the norm's gain in whatever way it is stored, and its bias cancels.
        """
        wide = x.float()
        return wide if self._last_norm is None else (self._last_norm(wide) - self._last_norm(-wide)) / 2


@torch.no_grad()
def _last_norm(model: nn.Module) -> nn.Module | None:
    """Return, in float32, the norm whose output is the last hidden state; None if that is the output of no norm.

    Found by what it does, in one forward of two tokens, among the modules whose class is called a norm.
    """
    base = cast(nn.Module, model.base_model)
    outputs: dict[nn.Module, Tensor] = {}
    with ExitStack() as hooks:
        for norm in (module for module in base.modules() if "norm" in type(module).__name__.lower()):
            hooks.enter_context(reading(Tap(norm, "output"), partial(outputs.__setitem__, norm)))
        ids = torch.zeros(1, 2, dtype=torch.int64, device=next(base.parameters()).device)
        last = base(input_ids=ids, use_cache=False).last_hidden_state
    found = [norm for norm, output in outputs.items() if torch.equal(output, last)]
    return copy.deepcopy(found[-1]).float() if found else None
