"""Frozen records: the same ones on the wire, in the store and in the client.

Indices of features are the dictionary's own. Token lists and curves are strongest or smallest first. Times are
aware. A *position* is a token position; a *document* is the corpus' own running number.
"""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Generic, Literal, NamedTuple, TypeVar
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Record(BaseModel):
    """A frozen value that refuses unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


# ---------------------------------------------------------------------------------------------- dictionaries

SiteKind = Literal[
    "resid_pre",
    "resid_mid",
    "resid_post",
    "mlp_in",
    "mlp_normed",
    "mlp_out",
    "attn_out",
    "attn_heads",
    "mlp_hidden",
]
EncoderKind = Literal["relu", "topk", "batchtopk", "jumprelu", "gated", "linear", "neurons"]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Encoder(Record):
    """How activations come from the read site.

    `neurons` has no weights: the activation is the site itself. `linear` without weights of its own uses the
    decoder rows: a_i(x) = relu(x·w_i + b_i).
    """

    kind: EncoderKind
    k: int | None = Field(None, ge=1, description="of topk and batchtopk")
    subtract_b_dec: bool = Field(False, description="the decoder bias is subtracted from the input")
    normalize: Literal["none", "expected_average_only_in", "constant_norm_rescale", "layer_norm"] = "none"
    norm_coefficient: float | None = Field(None, gt=0, description="of expected_average_only_in")
    rescale_acts_by_decoder_norm: bool = False


class DictionarySpec(Record):
    """What a user submits to describe a feature dictionary; weights follow by PUT unless the encoder is `neurons`."""

    name: str = Field(min_length=1, max_length=200)
    subject: str = Field(min_length=1, max_length=500, examples=["bundled:smollm2-135m-instruct"])
    revision: str | None = None
    read_site: str = Field(max_length=300, examples=["mlp_hidden.15", "resid_post.14"])
    write_site: str | None = Field(None, max_length=300, description="the read site unless given")
    encoder: Encoder
    n_features: int = Field(ge=1, le=100_000_000)
    source: str = Field("glossarium", max_length=100, description="the format that it was converted from")


DictionaryState = Literal["awaiting_weights", "ready", "failed"]


class Dictionary(Record):
    """A stored dictionary."""

    id: UUID
    spec: DictionarySpec
    state: DictionaryState
    weights_sha256: Digest | None
    digest: Digest = Field(description="sha256 of the spec's computing parts and the weights")
    error: str | None
    created_at: datetime


class Corpus(Record):
    """A stored corpus."""

    id: UUID
    name: str
    sha256: Digest
    n_bytes: int
    created_at: datetime


# ---------------------------------------------------------------------------------------------- runs

Method = Literal[
    "lexical",
    "max_activating",
    "vocabulary",
    "token_change",
    "steered_texts",
    "combined_vm",
    "combined_tm",
    "combined_vt",
    "combined",
    "concat",
    "refined",
    "imported",
]
"""`combined*` are the paper's Ensemble Raw (one prompt over several kinds of evidence), `concat` its Ensemble Concat
(no LLM call of its own); v = vocabulary, m = max_activating, t = token_change; without a suffix all three. `refined` is
the best of the others, revised by a describer that sees what it fails on; `imported` are others' labels, from a file,
which a run takes as they are: a feature may have none or several."""

Evaluation = Literal["input", "output", "output_llm", "free", "detection", "fuzzing", "sensitivity"]
"""`output` is the embedding judge, `output_llm` the LLM judge, `free` the LLM-free feature and embedding scores;
`detection` and `fuzzing` ask the LLM judge about contexts of the corpus; `sensitivity` is the share of texts written to
resemble the exemplars on which the feature fires."""

TokenChangeMethod = Literal["exact", "sequential", "linear"]
"""All contexts; contexts until the lists are stable; the mean Jacobian of the blocks above the site."""

Selection = str


class RunOptions(Record):
    """Sizes of a run. The defaults are the design's; a preset changes some."""

    k_exemplars: int = Field(20, ge=1, le=200)
    k_tokens: int = Field(50, ge=1, le=1000)
    pool_size: int = Field(32, ge=3, le=512)
    kl_targets: tuple[float, ...] = (0.25, 0.5)
    token_change_contexts: int = Field(32, ge=1, le=256)
    token_change_length: int = Field(32, ge=2, le=256)
    token_change: TokenChangeMethod = "exact"
    token_change_strength: float | None = Field(
        None, gt=0, description="what is added and subtracted; null: what reaches the largest KL target"
    )
    n_steered_prompts: int = Field(3, ge=1, le=8)
    n_steered_tokens: int = Field(25, ge=1, le=200)
    judge_trials: int = Field(3, ge=0, le=10)
    judged: Literal["every", "label"] = Field("every", description="which descriptions the LLM judge sees")
    embedding_pairs: int = Field(20, ge=2, le=64)
    survivors: int | None = Field(
        None,
        ge=1,
        description="descriptions of a feature that sentences are written for, the best by embeddings; null: all",
    )
    n_sentences: int = Field(5, ge=2, le=10)
    n_contexts: int = Field(
        20, ge=4, le=100, description="that detection and fuzzing ask about, half of them negatives"
    )
    prompts: Literal["own", "paper"] = Field("own", description="of describers: ours, or in the paper's structure")
    exemplars_in_prompt: int = Field(10, ge=1, le=50)
    tokens_in_prompt: int = Field(30, ge=1, le=200, description="of a promoted list; half as many of a suppressed one")
    reply_length: float = Field(1.0, ge=0.3, le=1.0, description="share of the usual lengths that LLMs are asked for")
    max_tokens_description: int = Field(120, ge=16, le=1024)
    max_tokens_sentences: int = Field(320, ge=32, le=2048)
    judge_targets: tuple[float, ...] = (0.5,)
    context_length: int = Field(128, ge=16, le=2048)


class Budget(Record):
    """The most that a run may spend on LLMs; what is not given has no cap. It decides no result."""

    dollars: float | None = Field(None, ge=1e-6, le=1_000_000, allow_inf_nan=False)
    tokens: int | None = Field(None, ge=1, le=10**15, description="of prompts and answers together")

    @model_validator(mode="after")
    def _caps_something(self) -> "Budget":
        if self.dollars is None and self.tokens is None:
            raise ValueError("give dollars, tokens or both")
        return self


class RunProfiles(NamedTuple):
    """The names of the LLM profiles of a run."""

    describer: str
    writer: str
    judge: str


class RunSpec(Record):
    """What a user asks of a run."""

    dictionary_id: UUID
    features: Selection = Field("all", examples=["all", "0-9,12", "random:24:0", "alive"], max_length=100_000)
    methods: tuple[Method, ...] = ("lexical", "max_activating", "vocabulary", "token_change", "combined")
    evaluations: tuple[Evaluation, ...] = ("input", "output", "output_llm", "free")
    corpus: str = Field("bundled", max_length=500, description="bundled, a corpus id, or operator:NAME")
    llm: str = Field("default", max_length=100, description="an operator's LLM profile; `none` for no LLM at all")
    writer: str | None = Field(None, max_length=100, description="the profile that writes sentences; null: as `llm`")
    judge: str | None = Field(None, max_length=100, description="the LLM judge's profile; null: as `llm`")
    seed: int = Field(0, ge=0, lt=2**31)
    priority: int = Field(0, ge=-10, le=10, description="jobs of a higher one go first, whatever else waits")
    weight: float = Field(1.0, ge=0.01, le=100, description="the share of the workers, among runs of one priority")
    budget: Budget | None = Field(None, description="as submitted; null: no cap. `usage.spending` has it as it is now")
    options: RunOptions = RunOptions()

    @property
    def profiles(self) -> RunProfiles:
        """Return the names of the LLM profiles by role."""
        return RunProfiles(self.llm, self.writer or self.llm, self.judge or self.llm)


RunState = Literal["queued", "running", "done", "failed", "cancelled", "paused"]


class StageProgress(Record):
    """How far a stage of a run is. Units are features, or corpus shards for `exemplars`."""

    stage: str
    jobs: int
    jobs_done: int
    units: int
    units_done: int
    dead: int
    seconds: float
    first_started_at: datetime | None
    last_finished_at: datetime | None


class MethodCount(Record):
    """How many of a run's features have this method's label with this status."""

    method: str | None
    status: str
    n: int


class CallCount(Record):
    """What the LLM calls of one purpose and outcome used."""

    purpose: str
    status: str
    calls: int
    from_cache: int
    attempts: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    dollars: float | None
    seconds: float


class Amount(Record):
    """Dollars and tokens, prompts and answers together."""

    dollars: float | None
    tokens: int | None


class Spending(Record):
    """What a run's LLM calls may cost, and cost so far. Dollars are null once a call's price was not known.

    What is reserved counts as spent: the most that calls under way can cost, and what those could whose worker died
    before it said what became of them.
    """

    budget: Budget | None = Field(description="null: no cap")
    spent: Amount
    reserved: Amount
    left: Amount | None = Field(description="of what has a cap; null without a budget")
    n_settled: int = Field(description="HTTP requests that were answered, or given up as if they had been")
    n_open: int = Field(description="HTTP requests that are under way, or whose worker died")


class Usage(Record):
    """What the LLM calls of a run used. Those from the cache are among the calls and used nothing."""

    calls: int
    from_cache: int
    attempts: int = Field(description="HTTP requests; retries and repairs are among them")
    prompt_tokens: int
    cached_tokens: int = Field(description="of the prompts, what the endpoint had read before")
    completion_tokens: int
    dollars: float | None = Field(description="of what was answered; null if the price of any call is not known")
    by_purpose: tuple[CallCount, ...]
    spending: Spending | None = None


class DeadJob(Record):
    """Work that was given up, and what it was about; the features then say so in their status."""

    stage: str
    features: tuple[int, ...] = ()
    document: int | None = Field(description="the number of a document of the corpus, which was left out")
    reason: str


class Run(Record):
    """A stored run."""

    id: UUID
    dictionary_id: UUID
    spec: RunSpec
    state: RunState
    note: str | None = Field(description="why it waits or failed")
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    n_features: int | None
    stages: tuple[StageProgress, ...] = ()
    counts: tuple[MethodCount, ...] = ()
    usage: Usage | None = Field(None, description="of LLMs so far; not in lists")
    dead: tuple[DeadJob, ...] = Field((), description="what was given up; at most 100, not in lists")


# ---------------------------------------------------------------------------------------------- evidence

EvidenceKind = Literal["exemplars", "vocabulary", "token_change", "calibration", "steered_texts"]


class TokenList(Record):
    """Tokens with a value each, strongest first."""

    ids: tuple[int, ...]
    tokens: tuple[str, ...]
    values: tuple[float, ...]


KEY_BEFORE, KEY_AFTER = 4, 3
"""Tokens around a peak that tell, with it, what a window is about: eight."""


class Window(Record):
    """A stretch of a document around the token where the feature is strongest."""

    document: int
    position: int = Field(description="of the peak in its context")
    peak: int = Field(description="index of the peak in `tokens`")
    tokens: tuple[str, ...]
    activations: tuple[float, ...]

    @property
    def text(self) -> str:
        """Return the plain text of the window."""
        return "".join(self.tokens)

    @property
    def maximum(self) -> float:
        """Return the activation at the peak."""
        return self.activations[self.peak]

    @property
    def about(self) -> "About":
        """Return what windows of the same words have in common."""
        before = min(self.peak, KEY_BEFORE)
        return About(before, self.tokens[self.peak - before : self.peak + KEY_AFTER + 1])


class About(NamedTuple):
    """The eight tokens around a peak, fewer at the ends of its context, and how many of them come before it."""

    before: int
    tokens: tuple[str, ...]


W = TypeVar("W", bound=Record)


class Lists(Record, Generic[W]):
    """What is kept of one half of the corpus, as windows of some form."""

    top: tuple[W, ...]
    uniform: tuple[W, ...]
    weighted: tuple[W, ...]
    silent: tuple[W, ...]
    hard_negatives: tuple[W, ...]


class SplitExemplars(Lists[Window]):
    """The stored contexts of one half of the corpus."""


class Firing(Record):
    """How often and how strongly a feature fires."""

    n_tokens: int
    n_firing: int
    threshold: float
    sum: float
    max: float
    histogram_edges: tuple[float, ...]
    histogram: tuple[int, ...]


class Exemplars(Firing):
    """What makes a feature fire, and how often it does."""

    describe: SplitExemplars
    score: SplitExemplars

    @property
    def density(self) -> float:
        """Return the share of counted tokens on which the feature fires."""
        return self.n_firing / self.n_tokens if self.n_tokens else 0.0


class VocabularyProjection(Record):
    """What the write direction promotes and suppresses by itself."""

    promoted: TokenList
    suppressed: TokenList
    neighbours: tuple[int, ...]
    cosines: tuple[float, ...]
    centred: bool


LEAST_OVERLAP = 0.5
"""Of linear token change with the exact one: with less, most tokens that a describer saw would not be those that
steering moves most."""


class Agreement(Record):
    """How far linear token change finds what the exact one finds, on a sample of the dictionary's features."""

    overlap: float = Field(description="share of the entries of the four lists that both have")
    cosine: float = Field(description="mean, between the changes of all logits less what they share")
    n_features: int


class TokenChange(Record):
    """How next-token logits move when the feature is amplified or suppressed: signed, ranked.

    Only `sequential` counts contexts and positions feature by feature; for `linear` they are those of the Jacobian.
    """

    amplified_raised: TokenList
    amplified_lowered: TokenList
    suppressed_raised: TokenList
    suppressed_lowered: TokenList
    strength_amplified: float
    strength_suppressed: float
    n_contexts: int
    n_positions: int
    method: TokenChangeMethod
    agreement: Agreement | None = Field(None, description="of `linear` with `exact`")

    @property
    def telling(self) -> bool:
        """Return whether a describer may rely on the lists."""
        return self.agreement is None or self.agreement.overlap >= LEAST_OVERLAP

    @property
    def origin(self) -> str:
        """Return how the lists were found, for people to read."""
        if self.agreement is None:
            return f"{self.method}, {self.n_contexts} contexts"
        return f"{self.method}, {self.agreement.overlap:.0%} of list entries as in the exact one"


class CurvePoint(Record):
    """One point of the strength-effect curve."""

    r: float = Field(description="|alpha|·|w| / mean residual norm at the write layer")
    alpha: float
    kl_nats: float


class TargetReached(Record):
    """A KL target: positive amplifies, negative suppresses."""

    target_kl_nats: float
    alpha: float
    r: float
    achieved_kl_nats: float
    reached: bool


class Calibration(Record):
    """Strength against effect, for both signs."""

    residual_norm: float
    amplified: tuple[CurvePoint, ...]
    suppressed: tuple[CurvePoint, ...]
    targets: tuple[TargetReached, ...]


class SteeredText(Record):
    """A text generated under intervention; `target_kl_nats` 0 is unsteered."""

    target_kl_nats: float
    prompt: str
    text: str = Field(description="the new tokens only")


class SteeredTexts(Record):
    """Two disjoint sets: `describe` is for describers, `score` for judges only."""

    describe: tuple[SteeredText, ...]
    score: tuple[SteeredText, ...]


AnyEvidence = Exemplars | VocabularyProjection | TokenChange | Calibration | SteeredTexts

EVIDENCE_RECORDS: dict[EvidenceKind, type[AnyEvidence]] = {
    "exemplars": Exemplars,
    "vocabulary": VocabularyProjection,
    "token_change": TokenChange,
    "calibration": Calibration,
    "steered_texts": SteeredTexts,
}


# ---------------------------------------------------------------------------------------------- labels


class Status(StrEnum):
    """What a value is when it is not a number or a text. Only `ok` counts in a mean."""

    OK = "ok"
    DEAD = "dead"
    TOO_RARE = "too_rare"
    UNREACHABLE = "unreachable"
    REFUSED = "refused"
    UNPARSED = "unparsed"
    NO_PATTERN = "no_pattern"
    ELIMINATED = "eliminated"
    NOT_APPLICABLE = "not_applicable"
    UNREPORTED = "unreported"
    FAILED = "failed"


class Description(Record):
    """What a method says of a feature, with what it was made from."""

    id: int | None = None
    feature: int
    method: Method
    status: Status
    text: str | None = Field(None, description="one sentence for both facets")
    trigger: str | None = None
    effect: str | None = None
    reason: str | None = Field(None, description="why the status is not ok")
    prompt_id: str | None = None
    prompt_sha256: str | None = None
    model: str | None = None
    parameters: dict[str, float | int | str] = {}
    reply: str | None = None
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    recipe: str
    created_at: datetime | None = None


class Sentences(Record):
    """What the writer wrote from a description alone."""

    description_id: int
    status: Status
    activating: tuple[str, ...] = ()
    neutral: tuple[str, ...] = ()
    reason: str | None = None
    prompt_id: str | None = None
    reply: str | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    recipe: str


ScoreKind = Literal[
    "input",
    "output",
    "output_llm",
    "detection",
    "fuzzing",
    "sensitivity",
    "embedding_auroc",
    "free_input",
    "free_output",
]


class Estimate(Record):
    """A value with its 95 % interval."""

    value: float
    low: float
    high: float
    n: int


class Score(Record):
    """A tested description (or, for free feature scores, a tested feature: `description_id` is None)."""

    feature: int
    kind: ScoreKind
    description_id: int | None = None
    method: Method | None = None
    status: Status
    estimate: Estimate | None = None
    control: Estimate | None = Field(None, description="measured, or chance where the definition has one")
    lift: float | None = Field(None, description="estimate less control")
    lift_low: float | None = None
    lift_high: float | None = None
    success: bool | None = Field(None, description="the paper's yes or no for this description")
    reason: str | None = None
    details: dict[str, object] = {}
    recipe: str


class Label(Record):
    """The published description of a feature, with the scores it is reported with."""

    feature: int
    text: str | None
    status: Status
    method: Method | None
    description_id: int | None
    author: str = "glossarium"
    input: Score | None = None
    output: Score | None = None
    output_llm: Score | None = None
    best_input: str | None = Field(None, description="the description that reads best")
    best_output: str | None = Field(None, description="the description that predicts steering best")
    choice: dict[str, object] = Field({}, description="how the winner won: candidates with their choose statistics")
    run_id: UUID | None = None
    created_at: datetime | None = None


class FeatureSummary(Record):
    """One row of a list of features."""

    index: int
    status: str
    label: str | None
    method: str | None
    density: float | None
    max_activation: float | None
    input_success: bool | None
    input_value: float | None
    input_lift: float | None
    output_success: bool | None
    output_value: float | None
    output_lift: float | None


class Provenance(Record):
    """What a piece of evidence was made from."""

    recipe: str
    document: dict[str, object]


class Feature(Record):
    """A feature with everything that is known of it."""

    summary: FeatureSummary
    label: Label | None
    exemplars: Exemplars | None = None
    vocabulary: VocabularyProjection | None = None
    token_change: TokenChange | None = None
    calibration: Calibration | None = None
    steered_texts: SteeredTexts | None = None
    descriptions: tuple[Description, ...] = ()
    scores: tuple[Score, ...] = ()
    provenance: dict[str, Provenance] = {}
