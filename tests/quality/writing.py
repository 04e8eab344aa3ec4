"""What is known so far as docs/quality.json and docs/quality.md. Nothing is measured here but how labels embed."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

from prompts.estimating import Features, expected_calls
from schema.labels import Estimate
from schema.records import Method
from schema.settings import Settings
from tests.quality import arms
from tests.quality.arms import PAPER_METHODS
from tests.quality.comparing import Compared, compare, rank_one, share
from tests.quality.running import Bed, Result, Row, Spent, read
from workers.embeddings import embed

_KINDS = {
    "input": "input success",
    "output": "output success, embedding judge",
    "output_llm": "output success, LLM judge",
}


class Scored(NamedTuple):
    """Success of one method by kind, over the features that have a score."""

    method: str
    input: Estimate | None
    output: Estimate | None
    tokens: float

    @property
    def total(self) -> float:
        """Return the sum of both shares: what the best single method is best at."""
        return sum(side.value for side in (self.input, self.output) if side)


def by_method(found: Result) -> list[Scored]:
    """Return how each of the paper's single methods did, the best first."""
    methods = [method for method in PAPER_METHODS if any(row.method == method for row in found.descriptions)]
    scored = []
    for method in methods:
        rows = [row for row in found.descriptions if row.method == method]
        scored.append(Scored(method, _share(rows, "input"), _share(rows, "output"), tokens_of(found, method)))
    return sorted(scored, key=lambda one: -one.total)


def best_of(found: Result) -> Method:
    """Return the paper's single method with the largest sum of input and output success."""
    best = by_method(found)[0].method
    return next(method for method in PAPER_METHODS if method == best)


def tokens_of(found: Result, method: str) -> float:
    """Return the LLM tokens that a description of one method takes, with the sentences that test it, a feature."""
    parts = ("max_activating", "vocabulary", "token_change") if method == "concat" else (method,)
    asked = (of for name, of in found.spent.items() if name in _purposes(parts))
    write = found.spent.get("write")
    n_written = sum(row.status["input"] != "untested" for row in found.descriptions) or 1
    written = (write.prompt_tokens + write.completion_tokens) / n_written if write else 0.0
    return sum(map(_a_feature, asked)) + written


def _purposes(methods: Iterable[str]) -> frozenset[str]:
    return frozenset(f"describe {method}" for method in methods)


def _share(rows: Sequence[Row], kind: str) -> Estimate | None:
    known = [row.success[kind] for row in rows if row.success[kind] is not None]
    return share([bool(value) for value in known]) if known else None


def measure_stability(first: Result, second: Result, bed: Bed) -> None:
    """Write how often the label of a second seed is nearest to the first seed's of the same feature."""
    texts = {row.feature: row.text for row in first.labels if row.text}
    others = {row.feature: row.text for row in second.labels if row.text}
    both = sorted(texts.keys() & others.keys())
    settings = Settings(embeddings_base_url=bed.embeddings_base_url)
    vectors = [embed([one[feature] or "" for feature in both], settings) for one in (texts, others)]
    found = rank_one(vectors[0], vectors[1])
    document = {"n": len(both), "rank_one": found.model_dump()}
    (bed.folder / "stability.json").write_text(json.dumps(document), "utf-8")


# ---------------------------------------------------------------------------------------------------- the documents


def write(folder: Path, docs: Path) -> None:
    """Write both documents from what is in the folder."""
    document = gather(folder)
    (docs / "quality.json").write_text(json.dumps(document, indent=1) + "\n", "utf-8")
    (docs / "quality.md").write_text(markdown(document), "utf-8")


def gather(folder: Path) -> dict[str, Any]:
    """Return everything that is known, as JSON."""
    known = {path.stem: read(json.loads(path.read_text("utf-8"))["result"]) for path in folder.glob("arms/*.json")}
    found: dict[str, Any] = {"judge": _planted(folder), "pilot": [], "compared": {}, "judged": {}, "stability": None}
    if "pilot-paper" in known:
        found["pilot"] = [_plain_scored(one) for one in by_method(known["pilot-paper"])]
    if "pilot-published" in known:
        found["pilot"].append(_plain_scored(_published(known["pilot-published"])))
    for name, suffix in (("compared", ""), ("judged", "-judged")):
        ours = known.get(f"published{suffix}")
        theirs = next(
            (of for arm, of in known.items() if arm.startswith("paper-") and arm.endswith("-judged") == bool(suffix)),
            None,
        )
        if ours and theirs:
            found[name] = _compared(ours, theirs)
    stability = folder / "stability.json"
    found["stability"] = json.loads(stability.read_text("utf-8")) if stability.exists() else None
    return found


def _planted(folder: Path) -> dict[str, Any] | None:
    path = folder / "planted.json"
    if not path.exists():
        return None
    known = json.loads(path.read_text("utf-8"))
    found: dict[str, Any] = {}
    for name, of in known.items():
        for judge, verdicts in of.items():
            judged = [bool(verdict) for verdict in verdicts if verdict is not None]
            found.setdefault(judge, {})[name] = share(judged).model_dump() | {
                "without_verdict": len(verdicts) - len(judged)
            }
    return found


def _published(found: Result) -> Scored:
    return Scored("published", _share(found.labels, "input"), _share(found.labels, "output"), _tokens_in_all(found))


def _tokens_in_all(found: Result) -> float:
    """Return the LLM tokens a feature of everything that the arm asked."""
    return sum(map(_a_feature, found.spent.values()))


def _a_feature(spent: Spent) -> float:
    return (spent.prompt_tokens + spent.completion_tokens) / spent.n_features


def _plain_scored(one: Scored) -> dict[str, Any]:
    sides = {name: side.model_dump() if side else None for name, side in (("input", one.input), ("output", one.output))}
    return {"method": one.method, **sides, "tokens": round(one.tokens)}


def _compared(ours: Result, theirs: Result) -> dict[str, Any]:
    method = theirs.arm.removeprefix("paper-").removesuffix("-judged")
    rows = {row.feature: row for row in theirs.descriptions if row.method == method}
    found: dict[str, Any] = {"method": method, "n_features": ours.n_features}
    for kind in _KINDS:
        a, b = _successes(ours.labels, kind), _successes(rows.values(), kind)
        if a and b:
            found[kind] = _plain_compared(compare(a, b))
    found["tokens"] = {
        name: {purpose: of._asdict() for purpose, of in arm.spent.items()}
        for name, arm in (("published", ours), ("paper", theirs))
    }
    found["controls"] = {"published": ours.controls, "paper": theirs.controls}
    found["seconds"] = {"published": ours.seconds_by_stage, "paper": theirs.seconds_by_stage}
    found["statuses"] = {
        kind: {"published": _statuses(ours.labels, kind), "paper": _statuses(rows.values(), kind)} for kind in _KINDS
    }
    return found


def _successes(rows: Iterable[Row], kind: str) -> dict[int, bool]:
    return {row.feature: bool(row.success[kind]) for row in rows if row.success[kind] is not None}


def _statuses(rows: Iterable[Row], kind: str) -> Mapping[str, int]:
    counted = [row.status[kind] for row in rows]
    return {status: counted.count(status) for status in sorted(set(counted))}


def _plain_compared(one: Compared) -> dict[str, Any]:
    sides = {name: getattr(one, name).model_dump() for name in ("first", "second", "difference")}
    return one._asdict() | sides


# ------------------------------------------------------------------------------------------------------ for people

_INTRODUCTION = """# How good labels are

Written by `GLOSSARIUM_DEV_DATA=FOLDER python -m tests.quality --model FILE.gguf`, from what has been measured so far;
the same figures are in `quality.json`. A real topk autoencoder of 4,096 features on the residual after layer 14 of
SmolLM2-135M; Qwen2.5-Coder-1.5B-Instruct (Q4_K_M weights, computed in bf16) is describer, writer and judge,
all-MiniLM-L6-v2 the embedding judge. Both sides are tested on the same steered texts, distractors and controls, with
the same writer. Shares with 95 % intervals (Wilson).
"""


def markdown(document: Mapping[str, Any]) -> str:
    """Return the document for people; what is not measured yet is said to be missing."""
    parts = [_INTRODUCTION, _judges(document["judge"]), _pilot(document["pilot"])]
    parts += [_comparison(name, document[name]) for name in ("compared", "judged")]
    parts += [_estimates(document), _stable(document["stability"]), _TRIED]
    return "\n".join(parts)


def _judges(found: Mapping[str, Any] | None) -> str:
    lines = ["## Can the judges judge?", ""]
    if not found:
        return "\n".join([*lines, _MISSING])
    lines += [
        "Three texts that plainly show a concept, against two such sets of other concepts; and the same with the",
        "description of a fourth, where a judge should sit at 1/3.",
        "",
        "| judge | right set, its description | right set, a description of none |",
        "| --- | --- | --- |",
    ]
    lines += [f"| {judge} | {_said(of['right'])} | {_said(of['wrong'])} |" for judge, of in found.items()]
    return "\n".join([*lines, ""])


def _pilot(rows: Sequence[Mapping[str, Any]]) -> str:
    lines = ["## Pilot: which of the paper's single methods is best", ""]
    if not rows:
        return "\n".join([*lines, _MISSING])
    lines += [
        "40 features, none of them compared below. LLM tokens a feature: description, sentences.",
        "",
        "| method | input success | output success, embedding judge | tokens |",
        "| --- | --- | --- | --- |",
    ]
    lines += [f"| {r['method']} | {_said(r['input'])} | {_said(r['output'])} | {r['tokens']:,} |" for r in rows]
    return "\n".join([*lines, ""])


def _comparison(name: str, found: Mapping[str, Any]) -> str:
    title = "Published label against that method" if name == "compared" else "The same before the LLM judge, one trial"
    if not found:
        return "\n".join([f"## {title}", "", _MISSING])
    lines = [
        f"## {title}",
        "",
        f"{found['n_features']} features; against `{found['method']}`. p is McNemar's, exact.",
        "",
        "| | published | paper | difference | p | features |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for kind, title in _KINDS.items():
        if kind in found:
            of = found[kind]
            figures = (_said(of["first"]), _said(of["second"]), _said(of["difference"], sign="+"), f"{of['p']:.2g}")
            lines.append(f"| {title} | {' | '.join(figures)} | {of['n']} |")
    asked = "" if name == "compared" else ", of the judge alone"
    for side, of_side in found["tokens"].items():
        spent = {purpose: of for purpose, of in of_side.items() if not asked or purpose == "judge"}
        read, written = (
            sum(of[f"{kind}_tokens"] / of["n_features"] for of in spent.values()) for kind in ("prompt", "completion")
        )
        lines += ["", f"LLM tokens a feature{asked}, {side}: {read:,.0f} read and {written:,.0f} written."]
    for side in found["tokens"]:
        controls = ", ".join(f"{kind} {_bounds(of)}" for kind, of in found["controls"][side].items())
        stages = ", ".join(f"{stage} {s:,.0f}" for stage, s in found["seconds"][side].items() if s >= 1)
        lines += ["", f"{side.capitalize()}: controls {controls} (chance for output 1/3). Seconds in jobs, up to eight"]
        lines += [f"of which wait for the LLM side by side: {stages}."]
    for kind, of in found["statuses"].items():
        unscored = {side: {s: n for s, n in by.items() if s not in ("ok", "untested")} for side, by in of.items()}
        lines += ["", f"Not scored, {kind}: {unscored}."] if any(unscored.values()) else []
    return "\n".join([*lines, ""])


def _estimates(document: Mapping[str, Any]) -> str:
    lines = ["## What was expected to be asked", ""]
    rows = [row for name in ("compared", "judged") if document[name] for row in expectations(document[name], name)]
    if not rows:
        return "\n".join([*lines, _MISSING])
    lines += [
        "Tokens that `glossarium run --dry-run` names for these runs, of the features that were asked about (what an",
        "earlier run had asked is not asked again), and tokens that were used; repeated calls are in both.",
        "",
        "| run | features | expected | used | expected / used |",
        "| --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {row.run} | {row.n_features} | {row.expected:,.0f} | {row.used:,} | {row.expected / row.used:.2f} |"
        for row in rows
    ]
    return "\n".join([*lines, ""])


class Expectation(NamedTuple):
    """Tokens that a run was expected to use, and those that it used, read and written."""

    run: str
    n_features: int
    expected: float
    used: int


def expectations(found: Mapping[str, Any], name: str) -> list[Expectation]:
    """Return what both sides of a comparison were expected to use, for what each of their purposes was asked about."""
    judged = name == "judged"
    asked = {"published": arms.ours(judged=judged), "paper": arms.paper(found["method"], judged=judged)}
    rows = []
    for side, arm in asked.items():
        spec = arm.spec(UUID(int=0), "bundled")
        expected, used = 0.0, 0
        for purpose, of in found["tokens"][side].items():
            alike = (e for e in expected_calls(spec, Features(of["n_features"], 0)) if e.purpose == purpose)
            expected += sum(e.calls * (e.prompt_tokens + e.completion_tokens) for e in alike)
            used += of["prompt_tokens"] + of["completion_tokens"]
        rows.append(Expectation(side + (", LLM judge" if judged else ""), found["n_features"], expected, used))
    return rows


def _stable(found: Mapping[str, Any] | None) -> str:
    lines = ["## Stability over seeds", ""]
    if not found:
        return "\n".join([*lines, _MISSING])
    said = f"A label of a second seed is nearest to the first seed's of its own feature in {_said(found['rank_one'])}"
    return "\n".join([*lines, f"{said} features, among all labels of the run.", ""])


_MISSING = "Not measured yet.\n"

_TRIED = """## What was tried

All of it on the pilot's features, none of which is compared.

- *First form* (before commit 42214c8): five tokens in a lexical description, a writer that was free in its words,
  descriptions embedded as they are. 0.55 of 40 on the input side, 0.57 on the output side, 1,164 tokens a feature.
- *The writer uses the very words that a description names* (`write/sentences.v2`): features on "better" or "respond"
  had failed because no sentence held the word.
- *Ten tokens instead of five* in lexical descriptions, from a quarter of the strongest one's effect on.
- *The embedding judge takes a method's wording off* (decision 15), of both sides alike.
- *Controls of the LLM judge in threes of trials* (decision 5): this judge says A where it does not know,
  and of 20 controls with drawn letters A was right for two; they stood at 0.15 and 0.10.
- Not taken up: words of steered texts in place of token change (0.50 to 0.64 of 72 features, against 0.74), tokens of
  the vocabulary projection (0.29 to 0.57; at chance for this dictionary), the template's words left out (0.72 to 0.82,
  but harder to read). These three by scratch measurements before the wording was taken off.
- What is left: this describer copies the form of its example (`words of X`), and it is the free description that
  becomes the label of seven features in ten.
"""


def _bounds(of: Mapping[str, float]) -> str:
    return f"{of['value']:.2f} [{of['low']:.2f}, {of['high']:.2f}]"


def _said(estimate: Mapping[str, Any] | None, sign: str = "") -> str:
    if estimate is None:
        return "not scored"
    figures = (f"{estimate[name]:{sign}.2f}" for name in ("value", "low", "high"))
    return "{} [{}, {}]".format(*figures) + ("" if sign else f" of {estimate['n']}")
