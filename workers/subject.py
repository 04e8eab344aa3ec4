"""One subject model: reads sites, runs edited forwards, generates.

Rows are padded on the right, so causal attention never sees padding and no attention mask is passed. Hooks are set for
the length of one call; a Subject is not thread-safe. It does not know dictionaries: an Edit carries what it needs.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import cached_property
from typing import Any, cast

import structlog
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from schema.errors import ShapeMismatch, UnknownSite, UnknownSubject
from schema.recipes import digest
from schema.subjects import Site, SubjectFacts, width
from workers.architecture import Anatomy
from workers.batches import Batch, Cache, Decoded
from workers.hooks import Edit as Edit
from workers.hooks import Reading as Reading
from workers.hooks import Shift, reading, skipping, writing
from workers.memory import AtOnce
from workers.module_paths import ModulePaths
from workers.tokens import Pieces

log = structlog.get_logger(__name__)

# Largest difference of logits between the resumed and the whole forward, over the largest logit.
RESUME_TOLERANCE = 1e-4
# The same between the whole forward and the model's own logits, where 4 roundings are no more.
LOGIT_TOLERANCE = 1e-4


class _Stop(Exception):
    """Ends a truncated forward: all sites have been read."""


class Subject:
    """A loaded causal language model."""

    def __init__(self, model: nn.Module, tokenizer: Any, facts: SubjectFacts, revision: str) -> None:
        self.name = facts.name
        self.revision = revision
        self.facts = facts
        self.tokenizer = tokenizer
        self.anatomy = Anatomy(model, facts) if facts.known else ModulePaths(model, facts)
        self._model = model
        self._base = cast(nn.Module, model.base_model)
        self._config = cast(Any, model.config).get_text_config()
        self._pieces = Pieces(tokenizer)
        head = _head(model, facts.name)
        self.unembedding: Tensor = cast(Tensor, head.weight).detach()
        self._head_bias: Tensor | None = getattr(head, "bias", None)
        self.dtype = self.unembedding.dtype
        self.device = self.unembedding.device
        self.n_vocab, self.d_model = self.unembedding.shape
        self.n_positions = int(getattr(self._config, "max_position_embeddings", 0) or 2**31)
        self.softcap: float | None = getattr(self._config, "final_logit_softcapping", None)
        self.special_ids = _special_ids(tokenizer)
        self.sink_id = _sink_id(tokenizer, self.name)
        # A token's logits, and some thirty vectors as wide as the residual, in float32.
        self.at_once = AtOnce(self.name, self.device, 4 * (self.n_vocab + 32 * self.d_model))
        self.resumable = facts.known is not None
        self.resumable = self._check_resumed() if self.resumable else self._check_whole()

    @property
    def softcapped(self) -> bool:
        """Return whether logits pass a final soft-cap, so that they are not linear in the hidden state."""
        return self.softcap is not None

    @property
    def fingerprint(self) -> dict[str, str | int]:
        """Return what results computed with this subject depend on in this process, for their provenance."""
        import transformers

        return {
            "subject": self.name,
            "revision": self.revision,
            "dtype": str(self.dtype).removeprefix("torch."),
            "device": self.device.type,
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "path": "resumed" if self.resumable else "whole",
            "tokens_per_forward": self.at_once.sizes.tokens,
            "rows_per_batch": self.at_once.sizes.rows,
        }

    # ------------------------------------------------------------------------------------------ tokens

    @cached_property
    def tokenization(self) -> str:
        """Return the sha256 of what decides which tokens a text has, and the sink that is put before them."""
        return digest({"tokenizer": self.tokenizer.backend_tokenizer.to_str(), "sink": self.sink_id})

    def tokenize(self, text: str) -> list[int]:
        """Return the tokens of a text, without special tokens around it."""
        return list(self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

    def pieces(self, ids: Sequence[int]) -> tuple[str, ...]:
        """Return a running text's display strings, one a token; "".join of them is the text."""
        return self._pieces.of_text(ids)

    def token_strings(self, ids: Sequence[int]) -> tuple[str, ...]:
        """Return the display strings of single tokens, as lists of tokens show them."""
        return self._pieces.of_tokens(ids)

    def batch(self, rows: Sequence[Sequence[int]], shape: tuple[int, int] | None = None) -> Batch:
        """Return rows of token ids as one batch. Raises ShapeMismatch if there is none or one is too long.

        shape: (rows, length) to fill up to, with rows that only hold the sink and with padding; nothing of it counts.
        """
        if shape is not None:
            rows = [*rows, *[[self.sink_id]] * (shape[0] - len(rows))]
        longest = max((len(row) for row in rows), default=0)
        if shape is not None and longest <= shape[1]:
            longest = shape[1]
        if not 1 <= longest <= self.n_positions:
            raise ShapeMismatch(f"tokens={longest}; a row of {self.name} must have 1..{self.n_positions}")
        ids = torch.full((len(rows), longest), self.sink_id, dtype=torch.int64)
        for i, row in enumerate(rows):
            ids[i, : len(row)] = torch.tensor(row, dtype=torch.int64)
        lengths = torch.tensor([len(row) for row in rows])
        attention = torch.arange(longest)[None] < lengths[:, None]
        counted = attention & ~torch.isin(ids, torch.tensor(sorted(self.special_ids), dtype=torch.int64))
        counted[:, 0] = False
        return Batch(ids.to(self.device), attention.to(self.device), counted.to(self.device))

    # ------------------------------------------------------------------------------------------ sites

    def width(self, site: Site) -> int:
        """Return how wide a site is. Raises UnknownSite."""
        self.anatomy.read_tap(site)
        known = width(self.facts, site)
        return self._width_read(site) if known is None else known

    def entry_layer(self, site: Site) -> int:
        """Return the last layer from which `resume` still passes the site: where to cache residuals for it."""
        return self.anatomy.entry_layer(site)

    def effective_directions(self, site: Site, directions: Tensor) -> Tensor:
        """Return directions (F, width) of a site's space in the space it is written in, (F, d), float32.

        For every site but `mlp_in`, `mlp_normed` and module paths that is the residual stream. Raises ShapeMismatch.
        """
        if directions.shape[-1] != (expected := self.width(site)):
            raise ShapeMismatch(f"width={directions.shape[-1]}; {site} of {self.name} has {expected}")
        matrix = self.anatomy.write_matrix(site)
        wide = directions.to(self.device, torch.float32)
        return wide if matrix is None else wide @ matrix

    def unit_directions(self, site: Site) -> Tensor:
        """Return the effective direction (width, d) of every coordinate of a site: those of its neurons."""
        matrix = self.anatomy.write_matrix(site)
        return torch.eye(self.width(site), device=self.device) if matrix is None else matrix

    # ------------------------------------------------------------------------------------------ reading

    def read(self, batch: Batch, site: Site) -> Tensor:
        """Return a site's values (B, T, width) by a truncated forward: no block above it runs."""
        return self.read_many(batch, [site])[site]

    @torch.no_grad()
    def read_many(self, batch: Batch, sites: Sequence[Site]) -> dict[Site, Tensor]:
        """Return the values of several sites, from one forward up to the last of them. Raises UnknownSite."""
        found: dict[Site, Tensor] = {}
        wanted = frozenset(sites)

        def keep(site: Site) -> Callable[[Tensor], None]:
            def take(x: Tensor) -> None:
                found[site] = x
                if len(found) == len(wanted):
                    raise _Stop

            return take

        with ExitStack() as hooks:
            for site in sorted(wanted, key=str):
                hooks.enter_context(reading(self.anatomy.read_tap(site), keep(site)))
            try:
                self._run(batch)
            except _Stop:
                return found
        missing = ", ".join(str(site) for site in sorted(wanted - found.keys(), key=str))
        raise UnknownSite(f"site={missing}; a forward pass of {self.name} does not run this module")

    @torch.no_grad()
    def residual_in(self, batch: Batch, layer: int) -> Tensor:
        """Return the residual (B, T, d_model) that enters block `layer`, or the final norm at layer n_layers.

        Token embeddings, where blocks are not known: `resume` then runs the whole forward.
        """
        found: list[Tensor] = []

        def take(x: Tensor) -> None:
            found.append(x)
            raise _Stop

        with reading(self.anatomy.entry(layer), take), suppress(_Stop):
            self._run(batch)
        return found[0]

    # ------------------------------------------------------------------------------------------ running

    @torch.no_grad()
    def hidden(self, batch: Batch, edit: Edit | None = None) -> Tensor:
        """Return hidden states (B, T, d_model) after the final norm, under an edit if there is one."""
        return self._hidden(batch, edit)

    @torch.no_grad()
    def resume(self, batch: Batch, residual: Tensor, layer: int, edit: Edit | None = None) -> Tensor:
        """Return what `hidden` returns, running only the blocks from `layer` on.

        residual: (B, T, d_model) clean `residual_in(batch, layer)`, one row for each row of the batch.
        Raises:   UnknownSite if the edit's sites are below `layer`; ShapeMismatch if rows differ.
        Where the subject is not resumable the whole forward runs instead, with the same result.
        """
        return self.resume_traced(batch, residual, layer, edit)

    def resume_traced(self, batch: Batch, residual: Tensor, layer: int, edit: Edit | None = None) -> Tensor:
        """Return what `resume` returns, to be differentiated with respect to the directions of the edit."""
        if residual.shape[:2] != batch.ids.shape:
            raise ShapeMismatch(f"residual={tuple(residual.shape[:2])}; the batch has {tuple(batch.ids.shape)}")
        self._check_passes(edit, layer)
        if not self.resumable:
            return self._hidden(batch, edit)
        with skipping(self.anatomy.blocks[:layer]), writing(self.anatomy.entry(layer), lambda _: residual):
            return self._hidden(batch, edit)

    def _hidden(self, batch: Batch, edit: Edit | None) -> Tensor:
        with self._editing(edit, batch.n_rows):
            return self._run(batch)

    def norm_direction(self, x: Tensor) -> Tensor:
        """Return directions (…, d_model) after the final norm without its bias, float32: scale does not matter.

        An architecture without a layout may have no norm there, or none that is found: then directions as they are.
        """
        return self.anatomy.norm_direction(x)

    @torch.no_grad()
    def unembed(self, hidden: Tensor, tokens: slice = slice(None)) -> Tensor:
        """Return logits (…, n_vocab) float32 of hidden states after the final norm, soft-capped if the model does.

        tokens: the ids whose logits are wanted.
        """
        bias = None if self._head_bias is None else self._head_bias[tokens]
        logits = F.linear(hidden.to(self.dtype), self.unembedding[tokens], bias).float()
        return logits if self.softcap is None else self.softcap * torch.tanh(logits / self.softcap)

    @torch.no_grad()
    def prefill(self, batch: Batch, edit: Edit | None = None) -> Decoded:
        """Return the logits after each row, and the cache. Rows must have one length. Raises ShapeMismatch."""
        if not bool(batch.attention.all()):
            lengths = sorted(set(batch.attention.sum(1).tolist()))
            raise ShapeMismatch(f"lengths={lengths}; rows that generate together must have one length")
        with self._editing(edit, batch.n_rows):
            out = self._base(input_ids=batch.ids, use_cache=True)
        return self._decoded(out, batch.ids.shape[1])

    @torch.no_grad()
    def step(self, ids: Tensor, cache: Cache, edit: Edit | None = None) -> Decoded:
        """Return the logits after one more token a row, ids (B,); extends the cache in place."""
        every = None if edit is None else torch.ones(len(ids), 1, dtype=torch.bool, device=self.device)
        with self._editing(edit, len(ids), mask=every):
            out = self._base(input_ids=ids[:, None], past_key_values=cache.past, use_cache=True)
        return self._decoded(out, cache.length + 1)

    def _decoded(self, out: Any, length: int) -> Decoded:
        return Decoded(self.unembed(out.last_hidden_state[:, -1]), Cache(out.past_key_values, length))

    def _run(self, batch: Batch) -> Tensor:
        return cast(Tensor, self._base(input_ids=batch.ids, use_cache=False).last_hidden_state)

    @contextmanager
    def _editing(self, edit: Edit | None, n_rows: int, mask: Tensor | None = None) -> Iterator[None]:
        """Set the hooks of an edit; `mask` overrides its own (the steps of a generation)."""
        if edit is None:
            yield
            return
        if edit.directions.shape[0] != n_rows or edit.strengths.shape != (n_rows,):
            got = (tuple(edit.directions.shape), tuple(edit.strengths.shape))
            raise ShapeMismatch(f"directions, strengths={got}; the batch has {n_rows} rows")
        shift = Shift(edit, edit.mask if mask is None else mask)
        with ExitStack() as hooks:
            if edit.reading is not None:
                hooks.enter_context(reading(self.anatomy.read_tap(edit.reading.site), shift.see))
            for tap in self.anatomy.write_taps(edit.site):
                hooks.enter_context(writing(tap, shift))
            yield

    def _width_read(self, site: Site) -> int:
        """Return the width of what a module gives for one row of two tokens. Raises UnknownSite if it is no row."""
        shape = tuple(self.read(self.batch([[self.sink_id] * 2]), site).shape)
        if len(shape) != 3 or shape[:2] != (1, 2):
            raise UnknownSite(f"site={site}; its output must be (rows, tokens, width), not {shape} for (1, 2)")
        return shape[2]

    def _check_passes(self, edit: Edit | None, layer: int) -> None:
        sites = [] if edit is None else [edit.site, *([edit.reading.site] if edit.reading else [])]
        for site in sites:
            if (entry := self.entry_layer(site)) < layer:
                raise UnknownSite(f"layer={layer}; a forward that passes {site} must resume at 0..{entry}")

    def _check_resumed(self) -> bool:
        """Return whether the resumed forward equals the whole one, on two fixed rows at half depth."""
        batch = self._probe()
        whole = self.unembed(self.hidden(batch))
        layer = (len(self.anatomy.blocks) + 1) // 2
        resumed = self.unembed(self.resume(batch, self.residual_in(batch, layer), layer))
        difference = _difference(resumed, whole)
        if difference <= RESUME_TOLERANCE:
            return True
        log.warning("subject_not_resumable", subject=self.name, difference=difference, limit=RESUME_TOLERANCE)
        return False

    @torch.no_grad()
    def _check_whole(self) -> bool:
        """Return False, for a subject of any architecture that can be steered at all. Raises UnknownSubject.

        Its logits must be its head's product with the last hidden state, up to a scale (Cohere, Granite), which the
        unembedding takes; and it must cache keys and values.
        """
        batch = self._probe()
        out = cast(Any, self._model)(input_ids=batch.ids, use_cache=True)
        self._scale_head(out.logits.float(), self.hidden(batch))
        difference = _difference(self.unembed(self.hidden(batch)), out.logits.float())
        if not difference <= self._rounding:  # NaN too
            raise UnknownSubject(
                f"subject={self.name!r}; logits must be its head's product with its last hidden state: they differ by "
                f"{difference:.2g} of their scale, limit {self._rounding:.2g}"
            )
        if getattr(out, "past_key_values", None) is None:
            raise UnknownSubject(f"subject={self.name!r}; must return past_key_values, with which to go on generating")
        log.warning(
            "subject_not_resumable", subject=self.name, architecture=self.facts.model_type, sites="module paths"
        )
        return False

    def _scale_head(self, logits: Tensor, hidden: Tensor) -> None:
        """Take the scale of the model's own logits into the unembedding, where it is not 1."""
        ours = self.unembed(hidden)
        scale = float((logits * ours).sum() / ours.square().sum())
        if abs(scale - 1) > self._rounding:
            self.unembedding = self.unembedding * scale
            self._head_bias = None if self._head_bias is None else self._head_bias * scale

    @property
    def _rounding(self) -> float:
        """Return by how much of their scale logits may differ that are the same but for rounding."""
        return max(LOGIT_TOLERANCE, 4 * torch.finfo(self.dtype).eps)

    def _probe(self) -> Batch:
        """Return two fixed rows."""
        ids = torch.arange(2 * 12).reshape(2, 12) * 7919 % min(self.n_vocab, len(self.tokenizer))
        return self.batch(ids.tolist())


def _difference(a: Tensor, b: Tensor) -> float:
    """Return the largest difference over the largest value."""
    return float((a - b).abs().max() / b.abs().max().clamp_min(1e-12))


def _head(model: nn.Module, name: str) -> nn.Module:
    head = cast(Any, model).get_output_embeddings()
    if not isinstance(getattr(head, "weight", None), Tensor):
        raise UnknownSubject(f"subject={name!r}; must have an output matrix, one row a token")
    return cast(nn.Module, head)


def _special_ids(tokenizer: Any) -> frozenset[int]:
    added = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    return frozenset(tokenizer.all_special_ids) | added


def _sink_id(tokenizer: Any, name: str) -> int:
    for token in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        if token is not None:
            return int(token)
    raise UnknownSubject(f"subject={name!r}; its tokenizer must have a BOS or an EOS token")
