"""Can the judge judge? Sets of texts that plainly show a concept, against two that show others.

If an LLM judge does not find the plain set, its verdicts on steered texts, which are odd, mean nothing.
"""

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from prompts.evaluation import ask_for_choice
from schema.profiles import LLMProfile, profile
from schema.settings import Settings
from workers.accounts import CompletionCache
from workers.embeddings import Vectors, embed
from workers.judge import MAX_TOKENS, TEMPERATURE
from workers.llm import complete
from workers.methods.output_evaluation import EmbeddedSet, Matrix, contrast, embedding_choice, wording
from workers.methods.statistics import stream
from workers.parse import JudgeReply, shortened

N_ROUNDS = 4
_LETTERS = "ABC"
_NONE = np.zeros((0, 384))
_EMBEDDED: dict[str, Vectors] = {}

CONCEPTS: Mapping[str, tuple[str, ...]] = {
    "cooking; promotes recipe, oven, butter": (
        "Preheat the oven and melt the butter in a pan.",
        "Stir the sauce until it thickens, then add salt.",
        "A good recipe for soup starts with onions.",
    ),
    "courts of law; promotes judge, trial, verdict": (
        "The judge told the jury to disregard the remark.",
        "Her lawyer asked for the trial to be moved.",
        "The verdict was read before a silent court.",
    ),
    "football; promotes goal, striker, match": (
        "The striker scored a late goal in the second half.",
        "Fans sang as the match went into extra time.",
        "Their keeper saved two penalties.",
    ),
    "medicine; promotes doctor, patient, symptoms": (
        "The doctor examined the patient for symptoms.",
        "Two tablets a day brought the fever down.",
        "Nurses prepared the ward for surgery.",
    ),
    "computers; promotes software, code, server": (
        "The server crashed after the software update.",
        "She fixed the bug with three lines of code.",
        "Back up the files before you reboot.",
    ),
    "the sea; promotes ship, waves, harbour": (
        "The ship left the harbour before the storm.",
        "Waves broke over the deck all night.",
        "Sailors watched the tide from the pier.",
    ),
    "money; promotes bank, price, invest": (
        "The bank raised its rates again this month.",
        "Investors sold shares as prices fell.",
        "He put half of his salary into savings.",
    ),
    "schools; promotes teacher, class, students": (
        "The teacher handed the class their essays.",
        "Students lined up for the school bus.",
        "Homework is due on Monday morning.",
    ),
    "weather; promotes rain, cloudy, temperature": (
        "Rain is expected, with temperatures near ten degrees.",
        "Clouds gathered and the wind turned cold.",
        "A sunny morning gave way to thunder.",
    ),
    "music; promotes guitar, song, band": (
        "The band played their first song without a drummer.",
        "He tuned the guitar before the concert.",
        "Her melody repeats in the last chorus.",
    ),
    "war; promotes soldiers, army, battle": (
        "Soldiers crossed the river before the battle.",
        "The army retreated under heavy fire.",
        "A truce was signed by both generals.",
    ),
    "gardens; promotes flowers, soil, plant": (
        "Plant the bulbs deep in moist soil.",
        "Roses and other flowers need pruning in spring.",
        "Weeds had taken over the vegetable bed.",
    ),
}


class Trial(NamedTuple):
    """A concept among two others: three names of concepts in order, the right place, and a description to judge by."""

    names: tuple[str, str, str]
    correct: int
    described: str


def trials(seed: int, *, wrong: bool) -> Iterator[Trial]:
    """Yield trials; where `wrong`, with the description of a concept that is not among the three."""
    names = sorted(CONCEPTS)
    for turn in range(N_ROUNDS):
        for i, name in enumerate(names):
            generator = stream(seed, "planted", turn, i)
            first, second, absent = (
                names[j] for j in generator.permutation([j for j in range(len(names)) if j != i])[:3]
            )
            correct = (turn + i) % len(_LETTERS)
            order = [first, second]
            order.insert(correct, name)
            yield Trial((order[0], order[1], order[2]), correct, absent if wrong else name)


def ask(llm: LLMProfile, trial: Trial, secret: bytes, cache: CompletionCache) -> bool | None:
    """Return whether the judge named the right set; None without a verdict."""
    completion = complete(
        llm,
        ask_for_choice([CONCEPTS[name] for name in trial.names], trial.described, secret).messages,
        shortened(JudgeReply, 1.0),
        max_tokens=MAX_TOKENS,
        temperature=TEMPERATURE,
        seed=0,
        purpose="judge",
        cache=cache,
    )
    return completion.value.choice == _LETTERS[trial.correct] if completion.value else None


class FileCache:
    """Replies in a JSON file: a stopped measurement asks nothing twice."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._known: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.exists() else {}

    def get(self, sha256: str) -> Mapping[str, Any] | None:
        """Return the reply under a digest, or None."""
        return self._known.get(sha256)

    def put(self, sha256: str, body: Mapping[str, Any]) -> None:
        """Keep a reply."""
        with self._lock:
            self._known[sha256] = dict(body)
            self._path.write_text(json.dumps(self._known), "utf-8")


def measure(settings: Settings, folder: Path) -> None:
    """Write to planted.json how each judge does: named the plain set or not, and with a description that fits none."""
    llm = profile("default", settings)
    if llm is None:
        raise ValueError("the judge needs an LLM")
    cache = FileCache(folder / "planted-replies.json")
    found: dict[str, dict[str, list[bool | None]]] = {}
    for name, wrong in (("right", False), ("wrong", True)):
        some = list(trials(0, wrong=wrong))
        with ThreadPoolExecutor(llm.limits.in_flight) as pool:
            verdicts = list(pool.map(lambda trial: ask(llm, trial, b"planted", cache), some))
        found[name] = {
            "LLM": verdicts,
            "embeddings": [_by_embeddings(trial, settings) for trial in some],
        }
    (folder / "planted.json").write_text(json.dumps(found), "utf-8")


def _by_embeddings(trial: Trial, settings: Settings) -> bool:
    contrasts = [contrast(EmbeddedSet(_vectors(CONCEPTS[name], settings), _NONE)) for name in trial.names]
    described, *others = _vectors([trial.described, *(c for c in CONCEPTS if c != trial.described)], settings)
    return embedding_choice(described - wording(others), contrasts).credit(trial.correct) == 1


def _vectors(texts: Sequence[str], settings: Settings) -> Matrix:
    return embed(texts, settings, _EMBEDDED).astype(np.float64)
