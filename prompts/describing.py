"""Evidence to the prompt of a describer. No LLM is called here."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from prompts.composing import NotApplicable
from prompts.evidence import Evidence
from prompts.loader import Ask, load_prompt
from prompts.paper import paper_messages_for
from prompts.quoting import quote
from schema.evidence import About, Calibration, SplitExemplars, SteeredText, TokenList, Window
from schema.labels import Status
from schema.needs import SHOWN
from schema.records import Method, RunOptions

# 24 tokens with the peak: what comes before tells more of the trigger, a little of what follows tells of the effect.
TOKENS_BEFORE = 16
TOKENS_AFTER = 7
# Fewer firing windows than this are an anecdote.
FEWEST_EXEMPLARS = 3
# Of what a kind of evidence has in a prompt of its own. Three kinds in full would be the longest prompt by far.
PART_OF_SEVERAL = 0.6


PROMPT = "describe/feature.v1"
"""One for all methods: what their calls share is then the same, and an endpoint reads it once."""


def asking_methods() -> tuple[Method, ...]:
    """Return the methods that ask an LLM about the evidence of a feature."""
    return tuple(SHOWN)


def messages_for(method: Method, evidence: Evidence, options: RunOptions, secret: bytes) -> Ask | NotApplicable:
    """Return the prompt of a method for one feature, or why there is none.

    A combined method goes on with the kinds of evidence that there are; a method of one kind needs its own.
    secret:  of the server; authenticates the quotations.
    """
    if options.prompts == "paper":
        return paper_messages_for(method, evidence, secret)
    kinds = SHOWN[method]
    sizes = _sizes(options, len(kinds))
    sections = {kind: _SECTIONS[kind](evidence, sizes) for kind in kinds}
    missing = [section for section in sections.values() if isinstance(section, NotApplicable)]
    if len(missing) == len(sections):
        return missing[0]
    values = {kind: quote(lines, secret) for kind, lines in sections.items() if not isinstance(lines, NotApplicable)}
    prompt = load_prompt(PROMPT)
    return Ask(prompt, prompt.messages(**values))


# ------------------------------------------------------------------------------------------------- sections

Section = list[Any] | NotApplicable


class Sizes(NamedTuple):
    """How much of each kind of evidence a prompt shows.

    following:  tokens after the peaks; none where other evidence tells the effect better, and small models mix them up.
    """

    exemplars: int
    following: int
    tokens: int
    pairs: int


def _sizes(options: RunOptions, n_kinds: int) -> Sizes:
    """Return what the options ask for, and less of each kind where several share a prompt."""
    part = 1.0 if n_kinds == 1 else PART_OF_SEVERAL
    return Sizes(
        max(FEWEST_EXEMPLARS, math.ceil(part * options.exemplars_in_prompt)),
        options.exemplars_in_prompt if n_kinds == 1 else 0,
        math.ceil(part * options.tokens_in_prompt),
        math.ceil(part * options.n_steered_prompts),
    )


def _exemplars(evidence: Evidence, sizes: Sizes) -> Section:
    """Return `[strength 1..10, text]` a line, strongest first; then the marked tokens, and those that come next."""
    exemplars = evidence.exemplars
    if exemplars is None:
        return NotApplicable(Status.NOT_APPLICABLE, "no exemplars were collected")
    if exemplars.n_firing == 0:
        return NotApplicable(Status.DEAD, f"it never fired on {exemplars.n_tokens} tokens")
    windows = spread(exemplars.describe, sizes.exemplars)
    if len(windows) < FEWEST_EXEMPLARS:
        return NotApplicable(Status.TOO_RARE, f"it fires in {len(windows)} contexts; needs {FEWEST_EXEMPLARS}")
    texts: list[Any] = [[strength(window.maximum, exemplars.max), marked(window)] for window in windows]
    after = (window.tokens[window.peak + 1] for window in windows if window.peak + 1 < len(window.tokens))
    peaks = _different(window.tokens[window.peak] for window in windows)
    following = _different(after)[: sizes.following]
    return [*texts, {"marked": peaks, **({"next": following} if following else {})}]


def _vocabulary(evidence: Evidence, sizes: Sizes) -> Section:
    projection = evidence.vocabulary
    if projection is None:
        return NotApplicable(Status.NOT_APPLICABLE, "no vocabulary projection was computed")
    n = sizes.tokens
    return [
        {
            "fall": readable(projection.suppressed, math.ceil(n / 2)),
            "rise": readable(projection.promoted, n),
        }
    ]


def _token_change(evidence: Evidence, sizes: Sizes) -> Section:
    change = evidence.token_change
    if change is None:
        return NotApplicable(Status.NOT_APPLICABLE, "no token change was measured")
    if not change.telling:
        return NotApplicable(Status.NOT_APPLICABLE, f"token change is too uncertain: {change.origin}")
    n = math.ceil(sizes.tokens / 2)  # a list of four
    return [
        {
            "weakened, fall": readable(change.suppressed_lowered, n),
            "weakened, rise": readable(change.suppressed_raised, n),
        },
        {
            "strengthened, fall": readable(change.amplified_lowered, n),
            "strengthened, rise": readable(change.amplified_raised, n),
        },
    ]


def _steered_texts(evidence: Evidence, sizes: Sizes) -> Section:
    """Return one line a prompt: the unsteered text and the one at the strongest target that was reached."""
    if evidence.steered_texts is None:
        return NotApplicable(Status.NOT_APPLICABLE, "no steered texts were generated")
    texts = _reached(evidence.steered_texts.describe, evidence.calibration)
    pairs = strongest_pairs(texts)[: sizes.pairs]
    if not pairs:
        return NotApplicable(Status.UNREACHABLE, "no KL target was reached, so there is no amplified text")
    return [
        {"beginning": steered.prompt, "normal": normal.text.strip(), "strengthened": steered.text.strip()}
        for normal, steered in pairs
    ]


_SECTIONS: dict[str, Callable[[Evidence, Sizes], Section]] = {
    "exemplars": _exemplars,
    "vocabulary": _vocabulary,
    "token_change": _token_change,
    "steered_texts": _steered_texts,
}


# ------------------------------------------------------------------------------------------------- rendering


def spread(split: SplitExemplars, n: int) -> list[Window]:
    """Return up to n different windows, strongest first: half from the top, the rest spread over the activations.

    The weighted sample reaches down the bands in proportion to activation; the uniform one fills what is left. Windows
    with the same eight tokens around the peak count once.
    """
    n_top = (n + 1) // 2
    chosen: dict[About, Window] = {}
    for windows, limit in ((split.top[:n_top], n), (split.weighted, n), (split.top, n), (split.uniform, n)):
        for window in windows:
            if len(chosen) < limit:
                chosen.setdefault(window.about, window)
    return sorted(chosen.values(), key=lambda w: (-w.maximum, w.document, w.position))


def marked(window: Window) -> str:
    """Return the text around the peak, with the peak token `<<marked>>`; a blank before it stays outside."""
    before = "".join(window.tokens[max(0, window.peak - TOKENS_BEFORE) : window.peak])
    after = "".join(window.tokens[window.peak + 1 : window.peak + 1 + TOKENS_AFTER])
    peak = window.tokens[window.peak]
    core = peak.lstrip(" ") or peak
    return f"{before}{peak[: len(peak) - len(core)]}<<{core}>>{after}"


def strength(activation: float, maximum: float) -> int:
    """Return an activation on a scale of 1 to 10, 10 being the feature's maximum."""
    return max(1, min(10, round(10 * activation / maximum))) if maximum > 0 else 1


def readable(tokens: TokenList, n: int) -> list[str]:
    """Return the first n tokens that differ in more than case or outer blanks, without broken characters."""
    return _different(tokens.tokens)[:n]


def _different(tokens: Iterable[str]) -> list[str]:
    chosen: dict[str, str] = {}
    for token in tokens:
        if "\ufffd" not in token:
            chosen.setdefault(token.strip().casefold() or token, token.strip() or token)
    return list(chosen.values())


def strongest_pairs(texts: Sequence[SteeredText]) -> list[tuple[SteeredText, SteeredText]]:
    """Return (unsteered, amplified) of each prompt, at the largest positive target that the prompt has."""
    normal = {text.prompt: text for text in texts if text.target_kl_nats == 0}
    amplified: dict[str, SteeredText] = {}
    for text in sorted(texts, key=lambda text: text.target_kl_nats):
        if text.target_kl_nats > 0 and text.prompt in normal:
            amplified[text.prompt] = text
    return [(normal[prompt], amplified[prompt]) for prompt in normal if prompt in amplified]


def _reached(texts: Sequence[SteeredText], calibration: Calibration | None) -> list[SteeredText]:
    """Return the texts without those of targets that were not reached; all of them where no calibration is known."""
    missed = {target.target_kl_nats for target in calibration.targets if not target.reached} if calibration else set()
    return [text for text in texts if text.target_kl_nats not in missed]
