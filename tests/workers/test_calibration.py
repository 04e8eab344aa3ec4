"""Calibration against hand-made curves, a plain loop of whole forwards, and what theory says of small strengths."""

import math
from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional

from schema.errors import InvalidInput, NotFinite
from schema.evidence import Calibration
from schema.subjects import Site
from tests import tiny
from workers.methods.calibration import CURVE, N_TOKENS, Outcome, Point, calibrate, prompt_batch, seek
from workers.methods.prompts_neutral import CALIBRATION, DESCRIBE, SCORE
from workers.subject import Edit, Subject

TARGETS = (-0.5, -0.25, 0.25, 0.5)


class Planted(NamedTuple):
    """The planted dictionary's directions and where they write."""

    subject: Subject
    site: Site
    directions: Tensor


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    folder = tmp_path_factory.mktemp("planted")
    dictionary = tiny.planted_dictionary(folder / "dictionary", tiny.make_subject(folder / "subject"))
    subject, site = tiny.build_subject(), Site.parse(dictionary.spec.read_site)
    return Planted(subject, site, subject.effective_directions(site, load_file(dictionary.weights)["w_dec"]))


@pytest.fixture(scope="module")
def calibrations(planted: Planted) -> list[Calibration]:
    return calibrate(planted.subject, planted.site, planted.directions, TARGETS)


def _measure(subject: Subject, site: Site, direction: Tensor, alpha: float) -> float:
    """Return the mean KL(clean ‖ steered), one prompt and one position at a time, by whole forwards."""
    divergences = []
    for prompt in CALIBRATION:
        batch = subject.batch([[subject.sink_id, *subject.tokenize(prompt.text)[:N_TOKENS]]])
        edit = Edit.add(site, direction[None], torch.tensor([alpha]))
        clean, steered = subject.unembed(subject.hidden(batch)), subject.unembed(subject.hidden(batch, edit))
        for position in range(1, batch.ids.shape[1]):
            p, q = (torch.log_softmax(x[0, position].double(), -1) for x in (clean, steered))
            divergences.append(float(functional.kl_div(q, p, reduction="sum", log_target=True)))
    return sum(divergences) / len(divergences)


# ------------------------------------------------------------------------------------------------------------ seeking


def test_the_next_strength_is_where_a_line_through_the_bracket_meets_the_target() -> None:
    # KL = r² between the points, so 0.25 is met at exactly 0.5.
    outcome = seek([Point(0.1, 0.01), Point(1.0, 1.0)], 0.25)
    assert not outcome.reached
    assert outcome.next_r == pytest.approx(0.5)


def test_below_the_weakest_point_kl_goes_with_the_square() -> None:
    assert seek([Point(0.02, 1.0), Point(0.06, 9.0)], 0.25).next_r == pytest.approx(0.01)


def test_a_point_within_a_tenth_of_the_target_reaches_it() -> None:
    points = [Point(0.1, 0.01), Point(0.4, 0.226), Point(1.0, 1.0)]
    assert seek(points, 0.25) == Outcome(Point(0.4, 0.226), reached=True)
    assert not seek(points, 0.26).reached


def test_where_a_curve_falls_again_the_smallest_strength_counts() -> None:
    points = [Point(0.1, 0.01), Point(0.3, 0.24), Point(0.9, 0.05), Point(2.7, 0.25)]
    assert seek(points, 0.25).point == Point(0.3, 0.24)
    rising = [Point(0.1, 0.01), Point(0.3, 0.6), Point(0.9, 0.05), Point(2.7, 0.25)]
    next_r = seek(rising, 0.25).next_r
    assert next_r is not None
    assert 0.1 < next_r < 0.3


def test_a_target_out_of_reach_stands_at_the_strongest_effect() -> None:
    points = [Point(0.1, 0.01), Point(0.3, 0.1), Point(0.9, 0.05)]
    assert seek(points, 0.25) == Outcome(Point(0.3, 0.1), reached=False)


def test_without_any_finite_point_nothing_is_reached() -> None:
    assert seek([], 0.25) == Outcome(Point(0.0, 0.0), reached=False)


def _seek_on(curve: Callable[[float], float], target: float) -> tuple[Outcome, int]:
    """Return where seeking ends on a known curve, and after how many measurements."""
    points = [Point(r, curve(r)) for r in CURVE]
    for n_tried in range(12):
        outcome = seek(points, target, n_tried)
        if outcome.next_r is None:
            return outcome, n_tried
        points = sorted([*points, Point(outcome.next_r, curve(outcome.next_r))])
    return seek(points, target), 12


@given(
    slope=st.floats(0.3, 6.0),
    scale=st.floats(-4.0, 6.0),
    ceiling=st.floats(0.6, 20.0),
    target=st.sampled_from([0.25, 0.5]),
)
def test_seeking_ends_within_a_tenth_on_any_smooth_saturating_curve(
    slope: float, scale: float, ceiling: float, target: float
) -> None:
    def curve(r: float) -> float:
        return ceiling * -math.expm1(-math.exp(scale) * r**slope / ceiling)

    outcome, _ = _seek_on(curve, target)
    if curve(5.0) >= target * 0.9:
        assert outcome.reached
        assert 0.9 * target <= outcome.point.kl_nats <= 1.1 * target
    else:
        assert outcome == Outcome(Point(CURVE[-1], curve(CURVE[-1])), reached=False)


def test_a_square_law_needs_one_measurement_a_target() -> None:
    assert _seek_on(lambda r: 7.0 * r * r, 0.25)[1] <= 1


def test_a_curve_that_jumps_over_the_target_is_not_said_to_reach_it() -> None:
    outcome, n_tried = _seek_on(lambda r: 0.01 if r < 0.3 else 3.0, 0.25)
    assert (outcome.reached, n_tried) == (False, 12)


# ------------------------------------------------------------------------------------------------------ on a subject


@pytest.mark.parametrize("arch", ["llama", "gpt2", "gemma2"])
def test_curve_equals_a_plain_loop_over_whole_forwards(arch: str) -> None:
    subject, site = tiny.build_subject(arch, block_scale=0.2), Site("resid_post", 1)
    directions = torch.randn(2, subject.d_model, generator=torch.Generator().manual_seed(5))
    for direction, made in zip(directions, calibrate(subject, site, directions, TARGETS), strict=True):
        for points, sign in ((made.amplified, 1), (made.suppressed, -1)):
            assert [point.r for point in points] == pytest.approx(CURVE)
            for point in points:
                assert point.alpha == pytest.approx(sign * point.r * made.residual_norm / float(direction.norm()))
                expected = _measure(subject, site, direction, point.alpha)
                assert point.kl_nats == pytest.approx(expected, rel=2e-3, abs=2e-6)


def test_residual_norm_is_the_mean_over_counted_positions_at_the_write_layer(planted: Planted) -> None:
    subject, site, directions = planted
    norms = []
    for prompt in CALIBRATION:
        batch = subject.batch([[subject.sink_id, *subject.tokenize(prompt.text)[:N_TOKENS]]])
        norms += subject.read(batch, site)[0, 1:].norm(dim=-1).tolist()
    assert len(norms) == len(CALIBRATION) * N_TOKENS
    assert calibrate(subject, site, directions[:1], TARGETS)[0].residual_norm == pytest.approx(sum(norms) / len(norms))


def test_reached_targets_hold_when_measured_again(planted: Planted, calibrations: list[Calibration]) -> None:
    subject, site, directions = planted
    for feature, made in enumerate(calibrations[:6]):
        assert [target.target_kl_nats for target in made.targets] == list(TARGETS)
        for target in made.targets:
            assert target.reached
            assert target.alpha * target.target_kl_nats > 0
            again = _measure(subject, site, directions[feature], target.alpha)
            assert again == pytest.approx(target.achieved_kl_nats, rel=2e-3)
            assert again == pytest.approx(abs(target.target_kl_nats), rel=0.101)


def test_kl_grows_with_the_square_of_small_strengths(calibrations: list[Calibration]) -> None:
    for made in calibrations:
        for points in (made.amplified, made.suppressed):
            rise = math.log(points[1].kl_nats / points[0].kl_nats) / math.log(points[1].r / points[0].r)
            assert rise == pytest.approx(2.0, abs=0.1)


def test_strength_is_relative_to_the_direction(planted: Planted) -> None:
    subject, site, directions = planted
    short, long = calibrate(subject, site, torch.stack([directions[0], 16.0 * directions[0]]), TARGETS)
    for a, b in zip(short.targets, long.targets, strict=True):
        assert (a.r, a.achieved_kl_nats, a.alpha) == pytest.approx((b.r, b.achieved_kl_nats, 16.0 * b.alpha), rel=1e-4)


def test_a_feature_does_not_depend_on_the_features_beside_it(planted: Planted, calibrations: list[Calibration]) -> None:
    subject, site, directions = planted
    assert calibrate(subject, site, directions[[9, 2, 30]], TARGETS) == [calibrations[i] for i in (9, 2, 30)]
    assert calibrate(subject, site, directions[[2]], TARGETS) == [calibrations[2]]


def test_a_direction_of_zeros_reaches_nothing_and_has_no_nan(planted: Planted) -> None:
    subject, site, directions = planted
    made = calibrate(subject, site, torch.stack([torch.zeros_like(directions[0]), directions[0]]), TARGETS)
    assert not any(target.reached for target in made[0].targets)
    assert {(p.alpha, p.kl_nats) for p in (*made[0].amplified, *made[0].suppressed)} == {(0.0, 0.0)}
    assert Calibration.model_validate_json(made[0].model_dump_json()) == made[0]
    assert all(target.reached for target in made[1].targets)


def test_an_unreachable_target_is_a_status_with_the_strongest_effect(planted: Planted) -> None:
    subject, site, directions = planted
    made = calibrate(subject, site, directions[:1], [200.0, 0.25])[0]
    far, near = made.targets
    strongest = max(made.amplified, key=lambda point: point.kl_nats)
    assert (far.reached, far.r, far.achieved_kl_nats) == (False, strongest.r, strongest.kl_nats)
    assert near.reached


def test_neurons_are_steered_in_the_residual_they_write_to(planted: Planted) -> None:
    subject = planted.subject
    site = Site("mlp_hidden", 2)
    directions = subject.effective_directions(site, torch.eye(subject.width(site))[:2])
    assert calibrate(subject, site, directions, TARGETS) == calibrate(
        subject, Site("resid_post", 2), directions, TARGETS
    )


def test_no_features_give_no_calibrations(planted: Planted) -> None:
    assert calibrate(planted.subject, planted.site, planted.directions[:0], TARGETS) == []


def test_bad_arguments_name_the_value(planted: Planted) -> None:
    subject, site, directions = planted
    with pytest.raises(InvalidInput, match=r"kl_targets=\[0\.0\]; must be finite and not 0"):
        calibrate(subject, site, directions[:1], [0.0, 0.25])
    with pytest.raises(NotFinite, match=r"rows \[0\]"):
        calibrate(subject, site, directions[:1] * math.inf, TARGETS)


# ------------------------------------------------------------------------------------------------------------ prompts


def test_prompts_stand_behind_a_sink_and_only_their_tokens_count(planted: Planted) -> None:
    batch = prompt_batch(planted.subject, CALIBRATION)
    assert batch.ids.shape == (8, 1 + N_TOKENS)
    assert batch.ids[:, 0].eq(planted.subject.sink_id).all()
    assert batch.counted.sum() == 8 * N_TOKENS


def test_prompt_sets_share_no_prompt_and_no_name() -> None:
    prompts = [*CALIBRATION, *DESCRIBE, *SCORE]
    assert len({prompt.text for prompt in prompts}) == len({prompt.name for prompt in prompts}) == 24
