"""What is found of one feature before anybody describes it: frozen records of each kind of evidence.

Token lists and curves are strongest or smallest first. A *position* is a token position; a *document* is the corpus'
own running number.
"""

from typing import Generic, Literal, NamedTuple, TypeVar

from pydantic import Field

from schema.records import Record, TokenChangeMethod

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


class LogitHistogram(Record):
    """How the logits of a projection lie between the lowest and the highest: equal steps, tokens in each."""

    low: float
    high: float
    counts: tuple[int, ...]
    every: int = Field(description="of so many tokens, by id, one is counted")

    @property
    def edges(self) -> tuple[float, ...]:
        """Return where the steps begin and end, one more than there are."""
        step = (self.high - self.low) / len(self.counts)
        return tuple(self.low + step * i for i in range(len(self.counts) + 1))


class VocabularyProjection(Record):
    """What the write direction promotes and suppresses by itself."""

    promoted: TokenList
    suppressed: TokenList
    neighbours: tuple[int, ...]
    cosines: tuple[float, ...]
    centred: bool
    histogram: LogitHistogram | None = Field(None, description="null in evidence from before it was counted")


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
