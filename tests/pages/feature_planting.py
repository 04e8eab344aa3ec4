"""A dictionary for the tests of the feature page: one feature of which everything is known, and one of each status."""

from collections.abc import Mapping, Sequence
from uuid import UUID
from zlib import crc32

from schema.contexts import Reference, References, SplitReferences, context_number
from schema.evidence import (
    AnyEvidence,
    Calibration,
    CurvePoint,
    EvidenceKind,
    LogitHistogram,
    SteeredText,
    SteeredTexts,
    TargetReached,
    TokenChange,
    TokenList,
    VocabularyProjection,
)
from schema.labels import Description, Label, Provenance, Score, Sentences, Status
from schema.store import contexts, descriptions, evidence, features, labels, scores
from schema.store.database import Connection
from service import examples

WHOLE, DEAD, TOO_RARE, FAILED, HOSTILE, UNREACHABLE = 3, 4, 5, 6, 8, 10
LABEL = "names of rivers; promotes boats and bridges"
OLD = "names of streams; promotes boats"
SCRIPT = "<script>document.title='taken'</script><img src=x onerror=alert(1)>"
TURNED = "\u202eturned round\u2066"
ARABIC = (" ال", "نهر", " طويل")
BEFORE, AFTER = 24, 8
_WORDS = (
    " They",
    " crossed",
    " the",
    "\n",
    " old",
    "  ",
    " bridge",
    " over",
    SCRIPT,
    TURNED,
    " 川",
    *ARABIC,
    "\t",
    " at",
)


def plant(connection: Connection, dictionary_id: UUID, n_features: int, run_id: UUID | None = None) -> None:
    """Write the dictionary's densities, all about feature 3, and labels of each status."""
    indices = range(n_features)
    features.set_density(connection, dictionary_id, indices, [i / 320 for i in indices], [i / 2 for i in indices])
    _put_evidence(connection, dictionary_id)
    _put_labels(connection, dictionary_id, run_id)
    for feature, status in ((DEAD, Status.DEAD), (TOO_RARE, Status.TOO_RARE), (UNREACHABLE, Status.UNREACHABLE)):
        reason = f"it fires in {feature - DEAD} contexts; needs 3"
        described = Description(feature=feature, method="max_activating", status=status, reason=reason, recipe="d")
        descriptions.put(connection, dictionary_id, described)
        _publish(connection, dictionary_id, feature, status)
    _publish(connection, dictionary_id, FAILED, Status.FAILED, choice={"reason": "its judge's job failed"})
    hostile = f"{SCRIPT} {TURNED} {'long ' * 20_000}"
    said = Description(feature=HOSTILE, method="combined", status=Status.OK, text=hostile, reply=hostile, recipe="d")
    stored = descriptions.put(connection, dictionary_id, said)
    _publish(connection, dictionary_id, HOSTILE, Status.OK, text=hostile, method="combined", description_id=stored.id)


def _put_evidence(connection: Connection, dictionary_id: UUID) -> None:
    found: Mapping[EvidenceKind, AnyEvidence] = {
        "vocabulary": VocabularyProjection(
            promoted=_tokens(" boat", 30),
            suppressed=_tokens(" desert", 30),
            neighbours=(7, HOSTILE),
            cosines=(0.6, 0.4),
            centred=True,
            histogram=LogitHistogram(low=-2.0, high=6.0, counts=(3, 40, 20, 1), every=64),
        ),
        "token_change": TokenChange(
            amplified_raised=_tokens(" boat", 10),
            amplified_lowered=_tokens(" sand", 10),
            suppressed_raised=_tokens(" sand", 10),
            suppressed_lowered=_tokens(" boat", 10),
            strength_amplified=22.0,
            strength_suppressed=-25.5,
            n_contexts=32,
            n_positions=1024,
            method="exact",
        ),
        "calibration": Calibration(
            residual_norm=55.2,
            amplified=_curve(1),
            suppressed=_curve(-1),
            targets=(
                TargetReached(target_kl_nats=0.5, alpha=22.0, r=0.4, achieved_kl_nats=0.51, reached=True),
                TargetReached(target_kl_nats=-0.5, alpha=-90.0, r=5.0, achieved_kl_nats=0.31, reached=False),
            ),
        ),
        "steered_texts": SteeredTexts(describe=_texts("I think that"), score=_texts("My idea is")),
    }
    for kind, record in found.items():
        evidence.put(connection, dictionary_id, kind, Provenance(recipe=kind, document={"seed": 0}), {WHOLE: record})
    texts = {
        number: tuple(_WORDS[(number + i) % len(_WORDS)] for i in range(BEFORE + AFTER + 1)) for number in _numbers()
    }
    for number, tokens in texts.items():
        texts[number] = (*tokens[:BEFORE], f" Danube{number >> 32}", *tokens[BEFORE + 1 :])
    reading = contexts.Reading("read", lambda numbers: {number: texts[number] for number in numbers})
    made = Provenance(recipe="exemplars", document={"corpus": "bundled", "seconds": 41.2})
    evidence.put_exemplars(connection, dictionary_id, made, {WHOLE: _references()}, reading)
    silent = _references().model_copy(update={"n_firing": 0, "sum": 0.0, "max": 0.0, **_NOTHING})
    evidence.put_exemplars(connection, dictionary_id, made, {DEAD: silent}, reading)


def _put_labels(connection: Connection, dictionary_id: UUID, run_id: UUID | None) -> None:
    made = [
        _described(
            "combined", LABEL, reply='{"trigger": "names of rivers"}', prompt_id="describe/feature.v1", model="m"
        ),
        _described("lexical", 'fires on "Danube"'),
        Description(
            feature=WHOLE, method="vocabulary", status=Status.UNPARSED, reason="no word", reply="…", recipe="d"
        ),
    ]
    combined, lexical, _ = [descriptions.put(connection, dictionary_id, one) for one in made]
    written = Sentences(
        description_id=combined.id or 0,
        status=Status.OK,
        activating=("The Rhine is wide.", SCRIPT),
        neutral=("Bread is baked.",),
        recipe="s",
    )
    descriptions.put_sentences(connection, written)
    details: dict[str, object] = {"activating": [4.5, 0.1], "neutral": [0.0], "threshold": 0.5}
    own = _score(examples.INPUT_SCORE, combined, details=details)
    pairs: dict[str, object] = {
        "pairs": [[7, 9], [5, 6]],
        "hits": [1.0, 0.5],
        "wrong": [7, 9],
        "wrong_hits": [0.0, 1.0],
    }
    output = _score(examples.OUTPUT_SCORE, combined, details=pairs)
    judge = _score({**examples.OUTPUT_SCORE, "kind": "output_llm"}, combined, details={"verdicts": [True, "unparsed"]})
    weak = {"lift": -0.2, "lift_low": -0.4, "lift_high": -0.1, "success": False}
    scores.put(connection, dictionary_id, [own, output, judge, _score({**examples.INPUT_SCORE, **weak}, lexical)])
    standings = [
        {
            "candidate": "combined",
            "low": 0.9,
            "value": 1.1,
            "input": 0.4,
            "input_low": 0.3,
            "output": 0.7,
            "output_low": 0.6,
        },
        {
            "candidate": "lexical",
            "low": -0.1,
            "value": 0.1,
            "input": -0.2,
            "input_low": -0.3,
            "output": 0.3,
            "output_low": 0.2,
        },
    ]
    names = {"method": "combined", "description_id": combined.id, "run_id": run_id}
    _publish(connection, dictionary_id, WHOLE, Status.OK, text=OLD, **names)
    tested = {"input": own, "output": output, "output_llm": judge, "choice": {"standings": standings}}
    _publish(connection, dictionary_id, WHOLE, Status.OK, text=LABEL, **names, **tested)


def _publish(connection: Connection, dictionary_id: UUID, feature: int, status: Status, **said: object) -> None:
    fields = {"text": None, "method": None, "description_id": None, **said}
    label = Label.model_validate({"feature": feature, "status": status, **fields})
    labels.publish(connection, dictionary_id, label.run_id, label, f"label {label.text}"[:50])


def _described(method: str, text: str, **made: object) -> Description:
    fields = {"feature": WHOLE, "method": method, "status": "ok", "text": text, "recipe": method, **made}
    return Description.model_validate(fields)


def _score(example: Mapping[str, object], of: Description, **changes: object) -> Score:
    named = {"feature": WHOLE, "description_id": of.id, "method": of.method}
    return Score.model_validate({**example, **named, **changes})


def _tokens(first: str, n: int) -> TokenList:
    named = [first, SCRIPT, TURNED, "\n", *(f" {first.strip()}{i}" for i in range(n))][:n]
    ids = tuple(_number_of(name) for name in named)
    return TokenList(ids=ids, tokens=tuple(named), values=tuple(9.0 - i / 4 for i in range(n)))


def _number_of(text: str) -> int:
    return crc32(text.encode()) >> 1


def _curve(sign: int) -> tuple[CurvePoint, ...]:
    return tuple(CurvePoint(r=r, alpha=sign * 50 * r, kl_nats=r * r) for r in (0.02, 0.2, 2.0))


def _texts(prompt: str) -> tuple[SteeredText, ...]:
    said = {0.5: " the river is wide", -0.5: " sand is dry", 0.25: SCRIPT, 0.0: " it is late"}
    return tuple(SteeredText(target_kl_nats=target, prompt=prompt, text=text) for target, text in said.items())


def _numbers() -> Sequence[int]:
    return [context_number(document, 0) for document in range(40)]


def _reference(document: int, peak: float) -> Reference:
    activations = [0.0] * (BEFORE + AFTER + 1)
    if peak:
        activations[BEFORE], activations[BEFORE - 1] = peak, peak / 3
    return Reference(context=context_number(document, 0), position=BEFORE, activations=tuple(activations))


_NONE = SplitReferences(top=(), uniform=(), weighted=(), silent=(), hard_negatives=())
_NOTHING = {"describe": _NONE, "score": _NONE, "histogram": (0, 0, 0), "histogram_edges": (1.0, 2.0, 4.0, 8.0)}


def _half(start: int) -> SplitReferences:
    def some(first: int, *peaks: float) -> tuple[Reference, ...]:
        return tuple(_reference(start + first + i, peak) for i, peak in enumerate(peaks))

    top = some(0, 8.0, 7.5, 7.0, 6.5, 6.2, 6.1)
    spread = some(6, 5.0, 4.5, 3.0, 2.5, 1.5, 1.2)
    return SplitReferences(
        top=top, uniform=spread[2:], weighted=spread, silent=some(12, 0.0), hard_negatives=some(13, 0.0)
    )


def _references() -> References:
    return References(
        n_tokens=31_204,
        n_firing=306,
        threshold=1.0,
        sum=812.5,
        max=8.0,
        histogram_edges=(1.0, 2.0, 4.0, 8.0),
        histogram=(204, 80, 22),
        before=BEFORE,
        after=AFTER,
        describe=_half(0),
        score=_half(20),
    )
