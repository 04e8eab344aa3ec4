"""The demo's final table; the way there is the stack's and the API's own matter."""

import io
import json
from uuid import uuid4

from rich.console import Console

from schema.labels import Estimate, FeatureSummary, Label, Score, Status
from service.demo import SPEC, plain, table

RECIPE = "0" * 64


def summary(index: int, status: str) -> FeatureSummary:
    return FeatureSummary.model_validate(
        dict.fromkeys(FeatureSummary.model_fields) | {"index": index, "status": status}
    )


def score(kind: str, status: str = "ok") -> Score:
    tested = {
        "estimate": Estimate(value=0.9, low=0.7, high=1.0, n=10),
        "lift": 0.4,
        "lift_low": 0.1,
        "lift_high": 0.6,
        "success": True,
    }
    return Score.model_validate(
        {"feature": 4, "kind": kind, "status": status, "recipe": RECIPE, **(tested if status == "ok" else {})}
    )


LABEL = Label(
    feature=4, text="names of cities", status=Status.OK, method="combined", description_id=1,
    input=score("input"), output=score("output", "unreachable"), run_id=uuid4(),
)  # fmt: skip


def test_a_row_says_index_label_method_status_successes_lifts_and_intervals() -> None:
    row = json.loads(json.dumps(plain(summary(4, "ok"), LABEL)))
    assert (row["index"], row["label"], row["method"], row["status"]) == (4, "names of cities", "combined", "ok")
    assert (row["input_success"], row["input_value"], row["input_lift"]) == (True, [0.9, 0.7, 1.0], [0.4, 0.1, 0.6])
    assert (row["output_success"], row["output_lift"], row["output_status"]) == (None, None, "unreachable")
    assert row["judge_status"] is None


def test_a_feature_without_a_label_is_a_row_too() -> None:
    row = plain(summary(5, "dead"), None)
    assert (row["index"], row["label"], row["status"], row["input_success"]) == (5, None, "dead", None)


def test_the_table_holds_every_feature_and_fits_eighty_columns() -> None:
    console = Console(file=io.StringIO(), width=80)
    console.print(table([(summary(4, "ok"), LABEL), (summary(5, "dead"), None)]))
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    for piece in ("yes 0.90 +0.40", "[+0.10, +0.60]", "unreachable", "combined", "dead"):
        assert piece in text, piece
    assert max(map(len, text.splitlines())) <= 80


def test_the_demo_has_nothing_to_download() -> None:
    assert SPEC.subject.startswith("bundled:")
    assert SPEC.encoder.kind == "neurons"
