"""The Python client: the API's endpoints as methods, its records as values, its problems as exceptions.

What is safe to repeat is repeated for some seconds, as while the API is started again: GETs, and POSTs that are given
an idempotency key. Everything else is sent once.
"""

import math
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
from rich.console import Console

from schema.collections import Collection, CollectionPage, CollectionRun, CollectionRunPage, CollectionSpec
from schema.errors import Conflict, GlossariumError, Unavailable
from schema.health import MeasuredHealth
from schema.labels import Feature, FeatureSummary, Label
from schema.records import Budget, Corpus, Dictionary, DictionarySpec, Run, RunSpec, RunTerms
from schema.reports import RunReport
from schema.schedules import (
    Change,
    DiffPage,
    FeatureDiff,
    Refresh,
    RefreshPage,
    Schedule,
    SchedulePage,
    SchedulePatch,
    ScheduleSpec,
)
from schema.search import SearchPage, TokenHit, TokenPage, TokenSide
from schema.trials import ActivationsSpec, Continuations, SteeringSpec, TextActivations, Trial
from schema.wire import (
    CorpusPage,
    DictionaryPage,
    ExportFormat,
    FeaturePage,
    FeaturePrompt,
    FeaturePrompts,
    ImportedLabel,
    LabelPage,
    LabelsImported,
    PromptFile,
    PromptFiles,
    Readiness,
    Resume,
    RunEstimate,
    RunPage,
)
from service import downloads, event_stream
from service.client_admin import AdminClient
from service.client_labels import LabelsClient
from service.listings import Listing
from service.progress import watch
from service.transport import CHECK_S, Progress, as_text, error_of, exception_of


class Client(LabelsClient, AdminClient):
    """A connection to a Glossarium API.

    Raises, from every method: the exception of `schema.errors` that the service raised, with its message; Unavailable
    if the service does not answer.
    """

    # Dictionaries and corpora

    def submit_dictionary(self, spec: DictionarySpec, idempotency_key: str | None = None) -> Dictionary:
        """Submit a dictionary; unless it is of neurons, `upload_weights` comes next."""
        return self._post("/v1/dictionaries", Dictionary, spec, idempotency_key)

    def upload_weights(self, dictionary_id: UUID, path: Path, progress: Progress | None = None) -> Dictionary:
        """Upload a safetensors file of the canonical form, streamed and with its checksum."""
        answer = self._upload("PUT", f"/v1/dictionaries/{dictionary_id}/weights", path, progress)
        return Dictionary.model_validate_json(answer)

    def dictionaries(self) -> Iterator[Dictionary]:
        """Yield dictionaries, newest first."""
        for page in self._pages("/v1/dictionaries", DictionaryPage, {}):
            yield from page.items

    def dictionary(self, dictionary_id: UUID) -> Dictionary:
        """Return a dictionary."""
        return self._get(f"/v1/dictionaries/{dictionary_id}", Dictionary)

    def dictionary_health(self, dictionary_id: UUID) -> MeasuredHealth:
        """Return how a dictionary does on its subject; raises NotFound until a run has measured it."""
        return self._get(f"/v1/dictionaries/{dictionary_id}/health", MeasuredHealth)

    def delete_dictionary(self, dictionary_id: UUID) -> None:
        """Delete a dictionary with its runs, evidence and labels."""
        self._send("DELETE", f"/v1/dictionaries/{dictionary_id}")

    def upload_corpus(self, path: Path, name: str | None = None, progress: Progress | None = None) -> Corpus:
        """Upload a JSONL, JSONL.gz or parquet file; the same bytes under the same name are the same corpus."""
        answer = self._upload("PUT", "/v1/corpora", path, progress, {"name": name or path.name})
        return Corpus.model_validate_json(answer)

    def corpora(self) -> Iterator[Corpus]:
        """Yield uploaded corpora, newest first."""
        for page in self._pages("/v1/corpora", CorpusPage, {}):
            yield from page.items

    # Collections

    def create_collection(self, spec: CollectionSpec, idempotency_key: str | None = None) -> Collection:
        """Make a collection of dictionaries that are there."""
        return self._post("/v1/collections", Collection, spec, idempotency_key)

    def collections(self) -> Iterator[Collection]:
        """Yield collections, newest first."""
        for page in self._pages("/v1/collections", CollectionPage, {}):
            yield from page.items

    def collection(self, collection_id: UUID) -> Collection:
        """Return a collection."""
        return self._get(f"/v1/collections/{collection_id}", Collection)

    def delete_collection(self, collection_id: UUID) -> None:
        """Delete a collection; its dictionaries and runs stay."""
        self._send("DELETE", f"/v1/collections/{collection_id}")

    def submit_collection_run(
        self, collection_id: UUID, terms: RunTerms, idempotency_key: str | None = None
    ) -> CollectionRun:
        """Ask for labels of all dictionaries of a collection."""
        return self._post(f"/v1/collections/{collection_id}/runs", CollectionRun, terms, idempotency_key)

    def collection_runs(self, collection_id: UUID) -> Iterator[CollectionRun]:
        """Yield the runs over a collection, newest first."""
        for page in self._pages(f"/v1/collections/{collection_id}/runs", CollectionRunPage, {}):
            yield from page.items

    def collection_run(self, collection_id: UUID, run_id: UUID) -> CollectionRun:
        """Return a run over a collection, with the run of each dictionary as it stands."""
        return self._get(f"/v1/collections/{collection_id}/runs/{run_id}", CollectionRun)

    # Runs

    def submit_run(self, spec: RunSpec, idempotency_key: str | None = None) -> Run:
        """Ask for labels."""
        return self._post("/v1/runs", Run, spec, idempotency_key)

    def estimate_run(self, spec: RunSpec) -> RunEstimate:
        """Return what a run would ask of LLMs, and at what price; nothing is stored."""
        return self._post("/v1/runs/estimate", RunEstimate, spec)

    def run(self, run_id: UUID) -> Run:
        """Return a run with its stages and counts."""
        return self._get(f"/v1/runs/{run_id}", Run)

    def wait(self, run_id: UUID, *, timeout_s: float = math.inf, console: Console | None = None) -> Run:
        """Return a run when it is done, failed, cancelled or paused; until then its progress is shown.

        console:  where to; on standard error unless given. `Console(quiet=True)` shows nothing.

        Raises: Unavailable if it still goes on after `timeout_s`.
        """
        return watch(self, run_id, console or Console(stderr=True), timeout_s)

    def report(self, run_id: UUID) -> RunReport:
        """Return what a run found; raises NotFound until its last label is published."""
        return self._get(f"/v1/runs/{run_id}/report", RunReport)

    def runs(self, dictionary_id: UUID | None = None) -> Iterator[Run]:
        """Yield runs, newest first, without their stages."""
        for page in self._pages("/v1/runs", RunPage, {"dictionary_id": dictionary_id}):
            yield from page.items

    def cancel(self, run_id: UUID) -> Run:
        """End a run; what is finished stays."""
        return self._post(f"/v1/runs/{run_id}/cancel", Run)

    def pause(self, run_id: UUID) -> Run:
        """Let a run rest."""
        return self._post(f"/v1/runs/{run_id}/pause", Run)

    def resume(self, run_id: UUID, budget: Budget | None = None) -> Run:
        """Let a paused run go on, under another budget if one is given."""
        return self._post(f"/v1/runs/{run_id}/resume", Run, None if budget is None else Resume(budget=budget))

    def follow(self, run_id: UUID) -> Iterator[Run]:
        """Yield a run at once and whenever it changes, without its usage, until it is over; it may be paused for long.

        Where the connection breaks off it is made again. Raises: NotFound if there is no such run, or it is deleted;
        Unavailable if the service does not answer.
        """
        return event_stream.follow(self, run_id)

    # Schedules

    def create_schedule(self, spec: ScheduleSpec, idempotency_key: str | None = None) -> Schedule:
        """Have labels kept fresh."""
        return self._post("/v1/schedules", Schedule, spec, idempotency_key)

    def schedules(self) -> Iterator[Schedule]:
        """Yield schedules, newest first."""
        for page in self._pages("/v1/schedules", SchedulePage, {}):
            yield from page.items

    def schedule(self, schedule_id: UUID) -> Schedule:
        """Return a schedule."""
        return self._get(f"/v1/schedules/{schedule_id}", Schedule)

    def change_schedule(self, schedule_id: UUID, patch: SchedulePatch) -> Schedule:
        """Change what is given of a schedule; `paused` pauses or resumes it."""
        return self._patch(f"/v1/schedules/{schedule_id}", Schedule, patch)

    def delete_schedule(self, schedule_id: UUID) -> None:
        """Delete a schedule with its refreshes and diffs; runs and labels stay."""
        self._send("DELETE", f"/v1/schedules/{schedule_id}")

    def refreshes(self, schedule_id: UUID) -> Iterator[Refresh]:
        """Yield what the slots of a schedule led to, the latest first."""
        for page in self._pages(f"/v1/schedules/{schedule_id}/refreshes", RefreshPage, {}):
            yield from page.items

    def refresh_now(self, schedule_id: UUID, idempotency_key: str | None = None) -> Refresh:
        """Have what is stale labelled now, as at a slot; raises Conflict while the refresh before is not over."""
        return self._post(f"/v1/schedules/{schedule_id}/refreshes", Refresh, idempotency_key=idempotency_key)

    def refresh(self, schedule_id: UUID, refresh_id: UUID) -> Refresh:
        """Return what a slot led to."""
        return self._get(f"/v1/schedules/{schedule_id}/refreshes/{refresh_id}", Refresh)

    def diff(self, schedule_id: UUID, refresh_id: UUID, change: Sequence[Change] = ()) -> Iterator[FeatureDiff]:
        """Yield what a refresh did to labels, by feature; those that stayed the same only if asked for."""
        path = f"/v1/schedules/{schedule_id}/refreshes/{refresh_id}/diff"
        for page in self._pages(path, DiffPage, {"change": change or None}):
            yield from page.items

    # Trials

    def activations(self, dictionary_id: UUID, text: str, k: int = 5) -> TextActivations:
        """Run a text through the subject and return the k most active features of each token, with their labels.

        Waits for it. Raises: Unavailable if it was not done in the time that the service gives it.
        """
        spec = ActivationsSpec(text=text, k=k)
        trial = self._try(f"/v1/dictionaries/{dictionary_id}/activations", spec)
        assert trial.activations is not None  # of one that is done
        return trial.activations

    def steer(self, dictionary_id: UUID, index: int, spec: SteeringSpec) -> Continuations:
        """Return how a prompt goes on under some strengths of a feature, and without it.

        Waits for it. Raises: as `activations`.
        """
        trial = self._try(f"/v1/dictionaries/{dictionary_id}/features/{index}/steer", spec)
        assert trial.steering is not None  # of one that is done
        return trial.steering

    def trial(self, trial_id: UUID, wait_s: float = 0.0) -> Trial:
        """Return a trial, once it is over or a while has passed."""
        return self._get(f"/v1/trials/{trial_id}", Trial, {"wait": wait_s})

    def cancel_trial(self, trial_id: UUID) -> Trial:
        """End a trial."""
        return self._post(f"/v1/trials/{trial_id}/cancel", Trial)

    def _try(self, path: str, spec: ActivationsSpec | SteeringSpec) -> Trial:
        """Return a trial that is done. Raises what it failed with, Conflict if it was cancelled."""
        trial = self._post(path, Trial, spec)
        while not trial.over:
            trial = self.trial(trial.id, wait_s=10.0)
        if trial.state == "done":
            return trial
        kinds = {"expired": Unavailable.__name__, "cancelled": Conflict.__name__}
        kind = kinds.get(trial.state, trial.error or GlossariumError.__name__)
        raise exception_of(kind, trial.reason or f"trial {trial.id} was cancelled")

    # Features and labels

    def features(self, dictionary_id: UUID, **filters: Any) -> Listing[FeatureSummary]:
        """Return features, read page after page. Filters are the fields of `schema.wire.FeatureQuery`."""
        pages = self._pages(f"/v1/dictionaries/{dictionary_id}/features", FeaturePage, filters)
        return Listing(FeatureSummary, (item for page in pages for item in page.items))

    def feature(self, dictionary_id: UUID, index: int) -> Feature:
        """Return a feature with everything that is known of it."""
        return self._get(f"/v1/dictionaries/{dictionary_id}/features/{index}", Feature)

    def prompt_files(self) -> tuple[PromptFile, ...]:
        """Return the service's prompt files."""
        return self._get("/v1/prompts", PromptFiles).items

    def prompts(
        self, dictionary_id: UUID, index: int, *, methods: Sequence[str] = (), run_id: UUID | None = None
    ) -> tuple[FeaturePrompt, ...]:
        """Return what describers would be asked about a feature, word for word."""
        asked = {"method": list(methods), **({"run_id": str(run_id)} if run_id else {})}
        return self._get(f"/v1/dictionaries/{dictionary_id}/features/{index}/prompts", FeaturePrompts, asked).items

    def labels(self, dictionary_id: UUID, run_id: UUID | None = None) -> Listing[Label]:
        """Return current labels with their scores, by feature; of one run's features if it is given."""
        pages = self._pages(f"/v1/dictionaries/{dictionary_id}/labels", LabelPage, {"run_id": run_id})
        return Listing(Label, (item for page in pages for item in page.items))

    # Search

    def search(self, q: str, **filters: Any) -> SearchPage:
        """Return the labels that answer a question best. Filters are the other fields of `schema.search.SearchQuery`;
        `cursor` is `next_cursor` of the page before."""
        asked = {name: as_text(value) for name, value in filters.items() if value is not None}
        return self._get("/v1/search", SearchPage, {"q": q, **asked})

    def search_tokens(
        self, token: str, side: TokenSide = "promoted", *, dictionary_id: UUID | None = None, limit: int | None = None
    ) -> Iterator[TokenHit]:
        """Yield features that promote, suppress or fire on a token, those with it highest in a list first."""
        filters = {"token": token, "side": side, "dictionary_id": dictionary_id, "limit": limit}
        for page in self._pages("/v1/search/tokens", TokenPage, filters):
            yield from page.items

    # Exports

    def export(
        self,
        dictionary_id: UUID,
        format: ExportFormat,
        out: Path,
        progress: Progress | None = None,
        **options: Any,
    ) -> None:
        """Write an export to a file, or to a folder for delphi and neuronpedia, which must not be there yet.

        progress:  called with the features that have come, as far as the format tells, and those in all.
        options:   the other fields of `schema.wire.ExportQuery`.

        Raises: Conflict if `out` exists; Unavailable if the export is cut off. Nothing is left of it then.
        """
        asked = {"format": format, **{name: as_text(value) for name, value in options.items() if value is not None}}
        path = f"/v1/dictionaries/{dictionary_id}/export"
        patient = httpx.Timeout(self._timeout_s, read=CHECK_S)
        with downloads.placed(out) as whole, self._streamed(path, params=asked, timeout=patient) as response:
            total = int(response.headers.get("X-Glossarium-Features", 0))
            parts = response.iter_bytes()
            downloads.receive(
                format, parts, whole, lambda done: progress(min(done, total), total) if progress else None
            )

    def import_dictionary(self, path: Path, progress: Progress | None = None) -> Dictionary:
        """Import an archive as a new dictionary; nothing is left of one that can't be imported."""
        return Dictionary.model_validate_json(self._upload("POST", "/v1/dictionaries/import", path, progress))

    def import_labels(
        self, dictionary_id: UUID, labels: Iterable[ImportedLabel], origin: str, progress: Progress | None = None
    ) -> LabelsImported:
        """Import others' labels as descriptions that compete with ours in a run with the method `imported`."""
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", suffix=".jsonl") as file:
            file.writelines(f"{label.model_dump_json()}\n" for label in labels)
            file.flush()
            path = f"/v1/dictionaries/{dictionary_id}/descriptions"
            answer = self._upload("PUT", path, Path(file.name), progress, {"origin": origin})
        return LabelsImported.model_validate_json(answer)

    # Health

    def ready(self) -> Readiness:
        """Return what the service has of what it needs; raises only if it does not answer at all."""
        response = self._request("GET", "/ready")
        if response.status_code not in (200, 503):
            raise error_of(response)
        return self._parse(response.content, Readiness)
