"""Frozen records of what users bring and ask for: the same ones on the wire, in the store and in the client.

What is found is in `evidence`, what is said of it in `labels`. Indices of features are the dictionary's own. Times are
aware.
"""

from datetime import datetime
from typing import Annotated, Literal, NamedTuple
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


class RunTerms(Record):
    """What a user asks of a run, whatever its dictionary is."""

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


class RunSpec(RunTerms):
    """What a user asks of a run."""

    dictionary_id: UUID


RunState = Literal["queued", "running", "done", "failed", "cancelled", "paused"]
RUN_OVER: frozenset[RunState] = frozenset({"done", "failed", "cancelled"})
"""States of a run that nothing follows; a paused one may be resumed."""


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
    """How many features a run gave this method's label with this status; `unlabelled` has none of it yet."""

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
