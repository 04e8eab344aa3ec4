"""What travels over HTTP beside the records: queries, pages, readiness and problems."""

from typing import Literal
from uuid import UUID

from pydantic import ConfigDict, Field

from schema.labels import FeatureSummary, Label, Status
from schema.plain import PlainName, PlainText
from schema.records import Budget, Corpus, Dictionary, Method, Record, Run

FeatureSort = Literal[
    "index",
    "-index",
    "density",
    "-density",
    "input_lift",
    "-input_lift",
    "output_lift",
    "-output_lift",
    "input_value",
    "-input_value",
    "output_value",
    "-output_value",
]
FeatureStatus = Status | Literal["unlabelled"]


class PageQuery(Record):
    """Which page of a list."""

    limit: int = Field(50, ge=1, le=1000, description="rows on a page")
    cursor: str | None = Field(None, max_length=2000, description="`next_cursor` of the page before, as it came")


class TraitFilter(Record):
    """What features and their labels are like; what is not given does not filter."""

    status: tuple[FeatureStatus, ...] = Field((), description="any of these")
    method: tuple[Method, ...] = Field((), description="of the label, any of these")
    input_success: bool | None = None
    output_success: bool | None = None
    min_density: float | None = None
    max_density: float | None = None
    min_input_lift: float | None = None
    min_output_lift: float | None = None


class FeatureFilter(TraitFilter):
    """Which features of a dictionary; what is not given does not filter."""

    max_input_lift: float | None = None
    max_output_lift: float | None = None
    min_input_value: float | None = None
    max_input_value: float | None = None
    min_output_value: float | None = None
    max_output_value: float | None = None
    q: str | None = Field(None, min_length=1, max_length=200, description="a part of the label, in any case")
    run_id: UUID | None = Field(None, description="only features that this run selected")


class FeatureQuery(PageQuery, FeatureFilter):
    """A page of features; those without a value of the sort column come last in either direction."""

    sort: FeatureSort = Field("index", description="`-` in front for largest first")


class RunQuery(PageQuery):
    """A page of runs."""

    dictionary_id: UUID | None = Field(None, description="only runs of this dictionary")


class Resume(Record):
    """How a paused run goes on."""

    budget: Budget | None = Field(None, description="instead of the one that it has; null: as it is")


class LabelQuery(PageQuery):
    """A page of current labels, by feature."""

    run_id: UUID | None = Field(None, description="only features that this run selected")


ExportFormat = Literal["csv", "json", "parquet", "delphi", "neuronpedia", "archive"]
NeuronpediaPart = Literal["features", "activations", "explanations"]


class ExportQuery(Record):
    """What to export of a dictionary, in which form."""

    format: ExportFormat = Field("csv", description="`archive` is everything, and can be imported again")
    model: str | None = Field(
        None, min_length=1, max_length=60, description="what Neuronpedia calls the subject; its own name unless given"
    )
    source: str | None = Field(
        None,
        min_length=1,
        max_length=60,
        description="what Neuronpedia (6-res-jb) or delphi (layers.6) calls the dictionary; by its site unless given",
    )
    parts: tuple[NeuronpediaPart, ...] = Field(
        ("features", "activations", "explanations"), min_length=1, description="of neuronpedia; repeat it for several"
    )
    weights: bool = Field(True, description="of an archive: with the weights, which are most of it")


class ImportedLabel(Record):
    """What somebody else says of a feature: a line of a PUT of descriptions."""

    feature: int = Field(ge=0)
    text: PlainText
    author: PlainName | None = None
    model: PlainName | None = Field(None, description="that wrote it")
    method: PlainName | None = Field(None, description="by which it was found, in the words of its origin")


class OriginQuery(Record):
    """Where imported labels are from."""

    origin: str = Field(
        min_length=1, max_length=200, description="their name for it", examples=["neuronpedia gpt2-small/6-res-jb"]
    )


class LabelsImported(Record):
    """What came of an import of labels."""

    origin: str
    n_labels: int
    n_features: int = Field(description="that have one of them")
    n_new: int = Field(description="labels that were not there yet, in the same words and of the same origin")


class DictionaryPage(Record):
    """Dictionaries, newest first."""

    items: tuple[Dictionary, ...]
    next_cursor: str | None


class CorpusPage(Record):
    """Uploaded corpora, newest first."""

    items: tuple[Corpus, ...]
    next_cursor: str | None


class RunPage(Record):
    """Runs, newest first, without their stages."""

    items: tuple[Run, ...]
    next_cursor: str | None


class FeaturePage(Record):
    """Features in the asked order."""

    items: tuple[FeatureSummary, ...]
    next_cursor: str | None


class LabelPage(Record):
    """Labels, by feature."""

    items: tuple[Label, ...]
    next_cursor: str | None


class PromptFile(Record):
    """A versioned prompt file; a published version is never edited."""

    id: str
    sha256: str
    n_shared_characters: int = Field(description="of what all of its calls begin with: system and examples")


class PromptFiles(Record):
    """All prompt files, by id."""

    items: tuple[PromptFile, ...]


class ChatTurn(Record):
    """One turn of a chat, as an LLM gets it."""

    role: Literal["system", "user", "assistant"]
    content: str


class FeaturePrompt(Record):
    """What a method would ask an LLM about a feature, word for word."""

    method: Method
    status: Status = Field(description="ok, or why the method has nothing to ask")
    reason: str | None = None
    prompt_id: str | None = None
    prompt_sha256: str | None = None
    messages: tuple[ChatTurn, ...] = ()
    n_tokens: int | None = Field(None, description="of all messages, estimated from their characters")
    dollars: float | None = Field(None, description="for these and a usual reply; null where the price is not known")


class FeaturePrompts(Record):
    """What describers would be asked about a feature, with the options of a run."""

    items: tuple[FeaturePrompt, ...]


class PromptQuery(Record):
    """Whose options decide how much is shown."""

    run_id: UUID | None = Field(None, description="this run's; the defaults unless given")
    method: tuple[Method, ...] = Field((), description="only these; those of the run, or all, unless given")


class ExpectedCalls(Record):
    """The LLM calls that a run is expected to make for one purpose, and all of their tokens."""

    purpose: str
    profile: str
    calls: int
    prompt_tokens: int
    completion_tokens: int
    dollars: float | None = Field(description="null where a price is not known")


class RunEstimate(Record):
    """What a run is expected to ask of LLMs if nothing of it is known yet; what is known is not asked again."""

    n_features: int = Field(description="that are labelled")
    n_pool_only: int = Field(description="others that are steered and described, as distractors and controls")
    calls: int
    prompt_tokens: int
    completion_tokens: int
    dollars: float | None = Field(description="null where a price is not known")
    by_purpose: tuple[ExpectedCalls, ...]
    warning: str | None = Field(None, description="where that is above the run's budget")


class Health(Record):
    """The process answers."""

    status: Literal["ok"] = "ok"


class Check(Record):
    """Whether one thing that the service needs is there."""

    ok: bool
    reason: str | None = None


class Readiness(Record):
    """Whether requests can be served. Without Redis they can: work then starts a little later."""

    ready: bool
    database: Check
    migrations: Check
    redis: Check


class FieldProblem(Record):
    """What is wrong with one field of a request."""

    field: str
    message: str


class Problem(Record):
    """An error as RFC 9457 has it, with the name of the exception that it was."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    type: str
    title: str
    status: int
    detail: str
    error: str = Field(description="the name of an exception in schema.errors")
    errors: tuple[FieldProblem, ...] = ()
