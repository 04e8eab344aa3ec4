"""What a run will ask of LLMs, before it asks: calls and tokens by purpose, from the prompts and the run's options.

Sizes of what differs between calls are means that were measured on neurons and a real autoencoder of SmolLM2-135M; what
calls share is counted in the prompt files themselves. Prices are the profiles', and not known here.
"""

import math
from collections.abc import Iterator
from typing import Literal, NamedTuple

from prompts.describing import PART_OF_SEVERAL, PROMPT, asking_methods
from prompts.evaluation import CHOICE, CONTEXTS, CONTEXTS_PER_CALL, SENTENCES, SIMILAR
from prompts.loader import load_prompt
from prompts.paper import paper_prompt
from schema.graph import N_CONTROL_FEATURES
from schema.needs import SHOWN
from schema.records import Method, RunOptions, RunSpec

CHARACTERS_PER_TOKEN = 3.3
"""Of our prompts, by SmolLM2's tokenizer: lists and quotation marks make it less than of prose."""
TOKENS_PER_TURN = 5  # what a chat template adds
TOKENS_PER_QUOTATION = 18
TOKENS_PER_EXEMPLAR = 40
TOKENS_PER_ENTRY = 4  # of a list of tokens
TOKENS_PER_DESCRIPTION = 32
TOKENS_PER_SENTENCE = 12.5
TOKENS_PER_CONTEXT = 48
TOKENS_PER_ANSWER = 6
TOKENS_OF_A_VERDICT = 31
TOKENS_OF_A_REPLY = 46  # a describer's
MEAN_REVISIONS = 1.4  # the second is asked for where the first helped
REPAIRS = 1.03  # calls that are made again because the reply was none

TOKENS_IN_PAPER = {
    "input": 5 * 33 * 4.4 + 60,
    "vocabulary": 100 * TOKENS_PER_ENTRY,
    "token_change": 36 * TOKENS_PER_ENTRY,
}
"""Five texts token by token, and again without zeros; lists of fixed length."""

Role = Literal["describer", "writer", "judge"]


class Expected(NamedTuple):
    """Calls of one purpose, and the tokens of each."""

    purpose: str
    role: Role
    calls: float
    prompt_tokens: float
    completion_tokens: float


class Features(NamedTuple):
    """How many features a run is about, and how many others are only in its pool."""

    selected: int
    pool_only: int


def expected_calls(spec: RunSpec, features: Features) -> list[Expected]:
    """Return what a run asks, by purpose, where nothing of it is known yet."""
    made = [*_describing(spec, features), *_writing(spec, features), *_judging(spec, features)]
    return [one._replace(calls=one.calls * REPAIRS) for one in made if one.calls]


def _describing(spec: RunSpec, features: Features) -> Iterator[Expected]:
    described = features.selected + features.pool_only
    for method in spec.methods:
        size = _describer_size(method, spec.options) if method in asking_methods() else None
        if size is not None:
            yield Expected(f"describe {method}", "describer", described, size, TOKENS_OF_A_REPLY)
    if "refined" in spec.methods:
        size = _shared(PROMPT) + _evidence("combined", spec.options) + 7 * TOKENS_PER_EXEMPLAR + 150
        yield Expected("describe refined", "describer", MEAN_REVISIONS * features.selected, size, TOKENS_OF_A_REPLY)


def _writing(spec: RunSpec, features: Features) -> Iterator[Expected]:
    n_written = 2 * spec.options.n_sentences
    said = n_written * TOKENS_PER_SENTENCE + 8
    if "input" in spec.evaluations:
        calls = features.selected * _survivors(spec) + min(features.pool_only, N_CONTROL_FEATURES)
        size = _shared(SENTENCES) + TOKENS_PER_QUOTATION + TOKENS_PER_DESCRIPTION
        yield Expected("write", "writer", calls, size, said)
    if "sensitivity" in spec.evaluations:
        shown = spec.options.exemplars_in_prompt * TOKENS_PER_EXEMPLAR
        size = _shared(SIMILAR) + TOKENS_PER_QUOTATION + shown
        yield Expected("write similar", "writer", features.selected, size, said)


def _judging(spec: RunSpec, features: Features) -> Iterator[Expected]:
    options = spec.options
    judged = features.selected * (_survivors(spec) if options.judged == "every" else 1)
    if "output_llm" in spec.evaluations:
        controls = min(features.selected, max(N_CONTROL_FEATURES, math.ceil(features.selected / 10)))
        texts = 3 * options.n_steered_prompts * len(options.judge_targets) * (options.n_steered_tokens + 4)
        size = _shared(CHOICE) + 2 * TOKENS_PER_QUOTATION + 20 + texts + TOKENS_PER_DESCRIPTION
        calls = (judged + controls) * options.judge_trials
        yield Expected("judge", "judge", calls, size, TOKENS_OF_A_VERDICT)
    for kind, prompt in CONTEXTS.items():
        if kind in spec.evaluations:
            size = _shared(prompt) + 2 * TOKENS_PER_QUOTATION + TOKENS_PER_DESCRIPTION
            n_calls = math.ceil(options.n_contexts / CONTEXTS_PER_CALL)
            of_each = options.n_contexts / n_calls
            size += of_each * TOKENS_PER_CONTEXT
            yield Expected(f"judge {kind}", "judge", judged * n_calls, size, of_each * TOKENS_PER_ANSWER)


def _survivors(spec: RunSpec) -> int:
    """Return how many descriptions of a feature are tested."""
    return min(len(spec.methods), spec.options.survivors or len(spec.methods))


def _describer_size(method: Method, options: RunOptions) -> float | None:
    """Return the tokens of a describer's prompt, None where the paper has no such method."""
    if options.prompts == "own":
        return _shared(PROMPT) + _evidence(method, options)
    asked = paper_prompt(method)
    if asked is None:
        return None
    id_, kinds = asked
    return _shared(id_) + sum(TOKENS_IN_PAPER[kind] + TOKENS_PER_QUOTATION for kind in kinds)


def _shared(id_: str) -> float:
    """Return the tokens that all calls of a prompt begin and end with."""
    prompt = load_prompt(id_)
    turns = [prompt.system, *(turn["content"] for turn in prompt.examples)]
    return sum(map(len, turns)) / CHARACTERS_PER_TOKEN + TOKENS_PER_TURN * (len(turns) + 1)


def _evidence(method: Method, options: RunOptions) -> float:
    """Return the tokens of the evidence that a method shows."""
    kinds = SHOWN[method]
    part = 1.0 if len(kinds) == 1 else PART_OF_SEVERAL
    sizes = {
        "exemplars": math.ceil(part * options.exemplars_in_prompt) * TOKENS_PER_EXEMPLAR,
        "vocabulary": math.ceil(1.5 * part * options.tokens_in_prompt) * TOKENS_PER_ENTRY + 10,
        "token_change": 2 * math.ceil(part * options.tokens_in_prompt) * TOKENS_PER_ENTRY + 40,
        "steered_texts": math.ceil(part * options.n_steered_prompts) * (2 * options.n_steered_tokens + 25),
    }
    return sum(sizes[kind] + TOKENS_PER_QUOTATION + 10 for kind in kinds)
