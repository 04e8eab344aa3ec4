"""The part of the Python client that is about labels: look them up, correct them, compare them, and what they cost."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any
from uuid import UUID

from pydantic import TypeAdapter

from schema.comparisons import RunChange, RunDifference, RunDiffPage
from schema.edits import LabelEdit
from schema.labels import Label
from schema.lookups import MOST, BriefLabel, LabelsFound, LabelsWanted, Place, SimilarFeatures
from schema.usage import CallTotals, UsagePage, UsageRow
from service.transport import Transport

_LABELS = TypeAdapter(tuple[Label, ...])


class LabelsClient(Transport):
    """What a client does with labels."""

    def find_labels(self, features: Iterable[tuple[UUID, int]]) -> Iterator[BriefLabel | None]:
        """Yield the current labels of features, each a dictionary and an index, in their order; None where none is."""
        places = [Place(*one) for one in features]
        for first in range(0, len(places), MOST):
            wanted = LabelsWanted(features=tuple(places[first : first + MOST]))
            yield from self._post("/v1/labels/bulk", LabelsFound, wanted).items

    def label_history(self, dictionary_id: UUID, index: int) -> tuple[Label, ...]:
        """Return every label that a feature ever had, the newest first."""
        return _LABELS.validate_json(self._send("GET", f"{_feature(dictionary_id, index)}/labels"))

    def edit_label(self, dictionary_id: UUID, index: int, edited: LabelEdit) -> Label:
        """Write a label over the one that was seen; raises Conflict if another one stands there by now."""
        content, headers = edited.model_dump_json(), {"Content-Type": "application/json"}
        answer = self._send("PUT", f"{_feature(dictionary_id, index)}/label", headers=headers, content=content)
        return self._parse(answer, Label)

    def withdraw_label(self, dictionary_id: UUID, index: int, seen: int) -> None:
        """Let the newest label by a run stand again instead of a person's, whose id is `seen`."""
        self._send("DELETE", f"{_feature(dictionary_id, index)}/label", params={"seen": seen})

    def similar(self, dictionary_id: UUID, index: int, limit: int = 10) -> SimilarFeatures:
        """Return the features whose write directions are most like a feature's."""
        return self._get(f"{_feature(dictionary_id, index)}/similar", SimilarFeatures, {"limit": limit})

    def run_diff(self, run_id: UUID, against: UUID, change: Sequence[RunChange] = ()) -> Iterator[RunDifference]:
        """Yield what a run says of features otherwise than another one; what is the same only if asked for."""
        asked = {"against": against, "change": change or None}
        for page in self._pages(f"/v1/runs/{run_id}/diff", RunDiffPage, asked):
            yield from page.items

    def usage(self, **filters: Any) -> Iterator[UsageRow]:
        """Yield what LLM calls used by day, purpose and model. Filters are the fields of `schema.usage.UsageFilter`."""
        for page in self._pages("/v1/usage", UsagePage, filters):
            yield from page.items

    def usage_total(self, **filters: Any) -> CallTotals:
        """Return what LLM calls used together, filtered like `usage`."""
        return next(self._pages("/v1/usage", UsagePage, {**filters, "limit": 1})).total


def _feature(dictionary_id: UUID, index: int) -> str:
    return f"/v1/dictionaries/{dictionary_id}/features/{index}"
