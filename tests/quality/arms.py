"""The runs that are compared: which features, which methods, and what all arms have in common.

Both arms are tested on the same items: same dictionary, corpus and seed, so the same steered texts, distractors and
controls; sentences are written by the same LLM with the same prompt. They differ in the describer's prompts and in what
becomes the label.
"""

from itertools import islice
from typing import Any, NamedTuple
from uuid import UUID

from schema.presets import preset
from schema.records import Method, RunSpec
from schema.selection import as_text, draw

N_PILOT, N_COMPARED, N_JUDGED = 40, 240, 40
PAPER_METHODS: tuple[Method, ...] = ("max_activating", "vocabulary", "token_change", "combined", "concat")
"""The paper's single methods: MaxAct, VocabProj, TokenChange, Raw All, Concat All."""

N_FEATURES = 4_096
"""Of the real dictionary."""


def _drawn(n: int) -> str:
    """Return the first n features of a draw without those of the pilot, which prompts were tuned on."""
    pilot = set(islice(draw(N_FEATURES, 1), N_PILOT))
    return as_text(list(islice((i for i in draw(N_FEATURES, 0) if i not in pilot), n)))


_PILOT = f"random:{N_PILOT}:1"
_COMPARED, _JUDGED = _drawn(N_COMPARED), _drawn(N_JUDGED)
_TESTED = {"judge_trials": 1, "judged": "label"}
_INPUT_AND_EMBEDDINGS = ("input", "output")
_AND_JUDGE = (*_INPUT_AND_EMBEDDINGS, "output_llm")


class Arm(NamedTuple):
    """One run: its name in the tables, and its spec without the dictionary and the corpus."""

    name: str
    fields: dict[str, Any]

    def spec(self, dictionary_id: UUID, corpus: str) -> RunSpec:
        """Return what to ask of the API."""
        return RunSpec.model_validate({"dictionary_id": dictionary_id, "corpus": corpus, **self.fields})


def paper_pilot() -> Arm:
    """Return the paper's single methods on the pilot's features."""
    options = preset("paper")["options"] | _TESTED
    return Arm(
        "pilot-paper",
        {"methods": PAPER_METHODS, "options": options, "features": _PILOT, "evaluations": _INPUT_AND_EMBEDDINGS},
    )


def ours_pilot() -> Arm:
    """Return our labels on the pilot's features: what prompts are tuned on, so that nothing compared is seen."""
    return Arm("pilot-published", _ours() | {"features": _PILOT, "evaluations": _INPUT_AND_EMBEDDINGS})


def paper(method: Method, *, judged: bool = False) -> Arm:
    """Return the paper's best method on the features that are compared; with the LLM judge on some of them."""
    return Arm(f"paper-{method}{'-judged' if judged else ''}", _paper(method) | _on(judged))


def ours(*, judged: bool = False) -> Arm:
    """Return our published labels on the same features."""
    return Arm(f"published{'-judged' if judged else ''}", _ours() | _on(judged))


def second_seed() -> Arm:
    """Return our labels of another seed: other samples of exemplars, other steered texts."""
    return Arm("published-seed-1", _ours() | {"features": _COMPARED, "evaluations": ("output", "free"), "seed": 1})


def _on(judged: bool) -> dict[str, Any]:
    if judged:
        return {"features": _JUDGED, "evaluations": _AND_JUDGE}
    return {"features": _COMPARED, "evaluations": _INPUT_AND_EMBEDDINGS}


def _paper(method: Method) -> dict[str, Any]:
    options = preset("paper")["options"] | _TESTED
    parts: tuple[Method, ...] = ("max_activating", "vocabulary", "token_change", "concat")
    return {"methods": parts if method == "concat" else (method,), "options": options}


def _ours() -> dict[str, Any]:
    chosen = preset("frugal")
    return {"methods": chosen["methods"], "options": chosen["options"] | _TESTED}
