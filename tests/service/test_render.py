"""What people read in a terminal."""

from collections.abc import Callable

import pytest
from rich.console import Console, RenderableType

from schema.evidence import (
    Agreement,
    Calibration,
    CurvePoint,
    Exemplars,
    SplitExemplars,
    TargetReached,
    TokenChange,
    TokenList,
    VocabularyProjection,
    Window,
)
from schema.labels import Description, Estimate, Feature, FeatureSummary, Label, Score, Status
from schema.records import CallCount, Usage
from service import render

Shown = Callable[[RenderableType], str]
RECIPE = "0" * 64


@pytest.fixture
def shown() -> Shown:
    """Return what a renderable looks like in a terminal with colours."""

    def show(value: RenderableType) -> str:
        console = Console(width=160, force_terminal=True, color_system="truecolor")
        with console.capture() as captured:
            console.print(value)
        return captured.get()

    return show


def test_what_llms_used_is_shown_by_purpose_and_in_all(shown: Shown) -> None:
    row = CallCount(
        purpose="judge",
        status="ok",
        calls=1200,
        from_cache=3,
        attempts=1300,
        prompt_tokens=1_000_000,
        cached_tokens=900_000,
        completion_tokens=5,
        dollars=0.25,
        seconds=9.0,
    )
    unknown = row.model_copy(update={"purpose": "write", "calls": 7, "dollars": None})
    used = row.model_dump(exclude={"purpose", "status", "seconds", "dollars", "calls"})
    text = shown(render.usage_table(Usage(**used, calls=1207, dollars=None, by_purpose=(row, unknown))))
    for said in ("judge", "1,200", "1,000,000", "900,000", "0.2500", "write", "not known", "in all", "1,207"):
        assert said in text


def score(kind: str, value: float, lift: float, **changes: object) -> Score:
    fields = {
        "feature": 7,
        "kind": kind,
        "description_id": 1,
        "status": "ok",
        "estimate": Estimate(value=value, low=value - 0.1, high=value + 0.1, n=10),
        "lift": lift,
        "lift_low": lift - 0.1,
        "lift_high": lift + 0.1,
        "success": True,
        "recipe": RECIPE,
    }
    return Score.model_validate({**fields, **changes})


@pytest.fixture
def feature() -> Feature:
    """Return a feature that fires on a city, with a bit of everything."""
    window = Window(document=1, position=9, peak=1, tokens=(" to", " Paris", "\n"), activations=(0.5, 4.0, 1.0))
    split = SplitExemplars(top=(window,), uniform=(), weighted=(), silent=(), hard_negatives=())
    promoted = TokenList(ids=(5,), tokens=(" France",), values=(3.25,))
    return Feature(
        summary=FeatureSummary.model_validate(dict.fromkeys(FeatureSummary.model_fields) | {"index": 7, "status": ""}),
        label=Label(
            feature=7, text="cities", status=Status.OK, method="combined", description_id=1,
            input=score("input", 0.9, 0.4), output=score("output", 0.6, 0.27),
        ),
        exemplars=Exemplars(
            n_tokens=1000, n_firing=10, threshold=0.75, sum=20, max=4, histogram_edges=(0, 1), histogram=(1,),
            describe=split, score=split,
        ),
        vocabulary=VocabularyProjection(
            promoted=promoted, suppressed=promoted, neighbours=(), cosines=(), centred=False
        ),
        calibration=Calibration(
            residual_norm=10,
            amplified=(CurvePoint(r=0.02, alpha=0.1, kl_nats=0.0), CurvePoint(r=1, alpha=5, kl_nats=0.8)),
            suppressed=(),
            targets=(TargetReached(target_kl_nats=0.5, alpha=3, r=0.6, achieved_kl_nats=0.49, reached=True),
                     TargetReached(target_kl_nats=-0.5, alpha=-9, r=5, achieved_kl_nats=0.1, reached=False)),
        ),
        descriptions=(Description(id=1, feature=7, method="combined", status=Status.OK, text="cities", recipe=RECIPE),),
        scores=(score("input", 0.9, 0.4),),
    )  # fmt: skip


def test_firing_tokens_are_highlighted_and_others_are_not(feature: Feature, shown: Shown) -> None:
    line = next(line for line in shown(render.feature(feature)).splitlines() if "Paris" in line)
    styled = line[: line.index(" Paris")].rsplit("\x1b[", 1)[1]
    assert styled.startswith("1;48;5;")  # bold on a shade
    assert "48;5" not in line[: line.index(" to")]
    assert "⏎" in line


def test_everything_that_is_known_is_shown(feature: Feature, shown: Shown) -> None:
    text = shown(render.feature(feature))
    for piece in ("cities", "0.90", "+0.40", "[+0.30, +0.50]", "1.000%", "' France'", "▁█", "not reached", "combined"):
        assert piece in text, piece


def test_token_change_says_how_it_was_found(feature: Feature, shown: Shown) -> None:
    lists = dict.fromkeys(
        ("amplified_raised", "amplified_lowered", "suppressed_raised", "suppressed_lowered"),
        TokenList(ids=(5,) * 8, tokens=(" France",) * 8, values=(3.25,) * 8),
    )
    sizes = {"strength_amplified": 1.0, "strength_suppressed": -1.0, "n_contexts": 12, "n_positions": 384}
    for form, agreement, said in (
        ("sequential", None, "(sequential, 12 contexts)"),
        ("linear", Agreement(overlap=0.35, cosine=0.86, n_features=16), "(linear, 35% of list entries as in the exact"),
    ):
        change = TokenChange.model_validate({**lists, **sizes, "method": form, "agreement": agreement})
        assert said in shown(render.feature(feature.model_copy(update={"token_change": change})))


def test_a_feature_without_anything_is_shown_too(feature: Feature, shown: Shown) -> None:
    bare = Feature(summary=feature.summary, label=None)
    assert "no label yet" in shown(render.feature(bare))


def test_text_from_models_and_corpora_can_not_steer_the_terminal() -> None:
    assert render.printable("a\x1b[2J\x07b\r\nc\u202ed") == "a·[2J·b·⏎c·d"


def test_a_score_without_a_number_says_why() -> None:
    missing = score("output", 0, 0).model_copy(update={"status": Status.UNREACHABLE, "estimate": None, "lift": None})
    assert render.lift(missing) == render.estimate(missing) == "unreachable"
    assert render.lift(None) == "–"


def test_markup_in_a_label_is_only_text(feature: Feature, shown: Shown) -> None:
    label = Label(feature=7, text="[bold]x[/nonsense]", status=Status.OK, method=None, description_id=None)
    assert "[bold]x[/nonsense]" in shown(render.feature(feature.model_copy(update={"label": label})))
