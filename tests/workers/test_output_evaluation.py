import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schema.evidence import Calibration, SteeredText, TargetReached
from schema.labels import Status
from workers.methods.output_evaluation import (
    EmbeddedSet,
    Pool,
    contrast,
    draw_pairs,
    draw_wrong,
    eligible_distractors,
    embedding_choice,
    evaluate_output_embedding,
    independent_pairs,
    judge_pairs,
    judge_wrong,
    reached_targets,
    text_set,
    wording,
)

BOTH = frozenset({0.5, -0.5})


def plain_pool(n, cosines=None, reached=BOTH):
    return Pool(tuple(range(n)), np.eye(n) if cosines is None else cosines, (reached,) * n)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


# ------------------------------------------------------------------------------------------------------ sets of texts


def test_only_reached_targets_of_either_sign_are_judged():
    def target(kl, reached):
        return TargetReached(target_kl_nats=kl, alpha=1, r=1, achieved_kl_nats=0.1, reached=reached)

    targets = (target(0.5, True), target(-0.5, False), target(0.25, True), target(-0.25, True))
    calibration = Calibration(residual_norm=1, amplified=(), suppressed=(), targets=targets)
    assert reached_targets(calibration, [0.5]) == (0.5,)
    assert reached_targets(calibration, [0.25, 0.5]) == (-0.25, 0.25, 0.5)
    assert reached_targets(calibration, [1.0]) == ()


def test_text_set_leaves_out_unsteered_texts_and_orders_by_prompt():
    steered = [SteeredText(target_kl_nats=t, prompt=p, text=f"{p}{t}") for t in (0, 0.5, -0.5, 0.25) for p in "ba"]
    texts = text_set(steered, [0.25, 0.5, -0.5])
    assert texts.amplified == ("a0.5", "b0.5", "a0.25", "b0.25")
    assert texts.suppressed == ("a-0.5", "b-0.5")
    with pytest.raises(ValueError, match=r"\[1.0\]"):
        text_set(steered, [0.5, 1.0])


# -------------------------------------------------------------------------------------------------------- distractors


def test_distractors_are_unlike_the_feature_and_reached_every_target():
    reached = (BOTH, BOTH, BOTH, frozenset({0.5}), BOTH | {0.25, -0.25})
    pool = Pool((4, 9, 2, 7, 5), np.eye(5), reached)
    assert eligible_distractors(2, np.array([0.1, -0.6, 1.0, 0.0, 0.49]), (0.5, -0.5), pool) == (4, 5)
    assert eligible_distractors(1, np.array([0.1, 0.0, 0.5, 0.0, 0.49]), (0.5,), pool) == (4, 5, 7, 9)


def test_pool_refuses_parts_that_do_not_fit():
    with pytest.raises(ValueError, match=r"3 features .*cosines \(2, 2\)"):
        Pool((1, 2, 3), np.eye(2), (BOTH,) * 3)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 34), st.integers(2, 24), st.integers(0, 1000))
def test_pairs_are_different_and_their_halves_share_no_feature(n_eligible, n, seed):
    pool = plain_pool(40)
    halves = draw_pairs(seed, 50, range(n_eligible), pool, n=n)
    pairs = halves.choose + halves.report
    assert len(set(pairs)) == len(pairs) <= n
    assert all(a < b < n_eligible for a, b in pairs)
    assert not set(itertools.chain(*halves.choose)) & set(itertools.chain(*halves.report))
    assert len(halves.choose) <= len(halves.report)
    for half in halves:
        uses = [list(itertools.chain(*half)).count(i) for i in range(n_eligible) if i in itertools.chain(*half)]
        assert not uses or max(uses) - min(uses) <= 2


def test_the_designs_pool_gives_ten_pairs_a_half():
    halves = draw_pairs(0, 3, [i for i in range(32) if i != 3], plain_pool(32))
    assert [len(half) for half in halves] == [10, 10]
    first_round = halves.report[:8]
    assert len(set(itertools.chain(*first_round))) == 16


@pytest.mark.parametrize(
    ("n_eligible", "sizes"), [(0, (0, 0)), (1, (0, 0)), (2, (0, 1)), (3, (0, 3)), (4, (1, 1)), (6, (3, 3))]
)
def test_few_distractors_are_kept_for_the_report(n_eligible, sizes):
    halves = draw_pairs(0, 50, range(n_eligible), plain_pool(8))
    assert tuple(map(len, halves)) == sizes


def test_one_pair_can_not_be_halved():
    with pytest.raises(ValueError, match="at least 2"):
        draw_pairs(0, 1, range(9), plain_pool(9), n=1)


def test_the_two_distractors_are_unlike_each_other():
    cosines = np.kron(np.eye(8), np.full((4, 4), 0.9)) + 0.1 * np.eye(32)  # eight families of four
    pool = plain_pool(32, cosines)
    halves = draw_pairs(0, 50, range(32), pool)
    assert len(halves.report) == 10
    assert all(a // 4 != b // 4 for a, b in halves.choose + halves.report)


def test_pairs_do_not_depend_on_the_order_of_the_pool():
    shuffled = Pool(tuple(reversed(range(12))), np.eye(12), (BOTH,) * 12)
    assert draw_pairs(1, 50, range(12), plain_pool(12)) == draw_pairs(1, 50, list(reversed(range(12))), shuffled)
    assert draw_pairs(1, 50, range(12), plain_pool(12)) != draw_pairs(1, 51, range(12), plain_pool(12))


def test_wrong_descriptions_come_from_outside_the_sets_and_the_neighbours():
    pairs = [(1, 2), (3, 4), (5, 6), (7, 8)]
    wrong = draw_wrong(0, 0, pairs, range(12), neighbours=[9, 10])
    assert list(wrong) == pairs
    assert all(other not in (0, 9, 10, *pair) for pair, other in wrong.items())
    assert len(set(wrong.values())) == 4


def test_a_pair_without_a_wrong_description_has_no_control():
    assert draw_wrong(0, 0, [(1, 2), (2, 3)], [0, 1, 2], neighbours=[]) == {(2, 3): 1}


def test_pairs_that_share_features_are_worth_fewer_trials():
    assert independent_pairs([(1, 2), (3, 4)]) == 2
    assert independent_pairs([(1, 2), (1, 3), (2, 3)]) == 1.5


# ---------------------------------------------------------------------------------------------------- embedding judge


def test_contrast_times_description_is_mean_cosine_less_mean_cosine():
    description, amplified, suppressed = normal(6), normal(3, 6, seed=1), normal(2, 6, seed=2)

    def slow(rows):
        return np.mean([row @ description / np.linalg.norm(row) / np.linalg.norm(description) for row in rows])

    choice = embedding_choice(description, [contrast(EmbeddedSet(amplified, suppressed))])
    assert choice.scores[0] == pytest.approx(slow(amplified) - slow(suppressed))
    only_one_side = contrast(EmbeddedSet(np.empty((0, 6)), suppressed))
    assert embedding_choice(description, [only_one_side]).scores[0] == pytest.approx(-slow(suppressed))


def test_chosen_set_is_amplified_towards_the_description_and_suppressed_away_from_it():
    towards, away, beside = np.array([[1.0, 0, 0]]), np.array([[-1.0, 0, 0]]), np.array([[0, 1.0, 0]])
    sets = [
        EmbeddedSet(away, towards),
        EmbeddedSet(towards, towards),
        EmbeddedSet(towards, away),
        EmbeddedSet(beside, away),
    ]
    assert embedding_choice(np.array([2.0, 0, 0]), [contrast(s) for s in sets]).best == (2,)


def test_tied_sets_share_the_credit_wherever_they_stand():
    contrasts = {0: np.array([1.0, 0.0]), 1: np.array([1.0, 5.0]), 2: np.array([0.2, 0.0])}
    description = np.array([1.0, 0.0])
    assert judge_pairs(description, 0, [(1, 2)], contrasts) == (0.5,)
    assert judge_pairs(description, 1, [(0, 2)], contrasts) == (0.5,)
    assert judge_pairs(description, 2, [(0, 1)], contrasts) == (0.0,)
    assert judge_pairs(np.zeros(2), 0, [(1, 2)], contrasts) == (pytest.approx(1 / 3),)


def test_sets_that_can_not_be_judged_are_refused():
    with pytest.raises(ValueError, match="without texts"):
        contrast(EmbeddedSet(np.empty((0, 2)), np.empty((0, 2))))
    with pytest.raises(ValueError, match="NaN"):
        contrast(EmbeddedSet(np.array([[np.nan, 1.0]]), np.ones((1, 2))))


@settings(deadline=None)
@given(st.permutations(range(3)), st.integers(0, 200))
def test_permuting_the_sets_changes_no_verdict(order, seed):
    contrasts, description = normal(3, 5, seed=seed), normal(5, seed=seed + 1)
    before = embedding_choice(description, list(contrasts))
    after = embedding_choice(description, [contrasts[i] for i in order])
    assert {order[i] for i in after.best} == set(before.best)


def test_renaming_the_features_changes_no_verdict():
    description, vectors = normal(5), normal(4, 5, seed=1)
    names = {0: 70, 1: 3, 2: 11, 3: 500}
    renamed = {names[i]: vector for i, vector in enumerate(vectors)}
    pairs = [(1, 2), (1, 3), (2, 3)]
    assert judge_pairs(description, 0, pairs, dict(enumerate(vectors))) == judge_pairs(
        description, 70, [(names[a], names[b]) for a, b in pairs], renamed
    )


def test_evaluation_by_hand():
    pairs = [(1, 2), (3, 4), (5, 6), (7, 8)]
    result = evaluate_output_embedding(pairs, [1, 1, 0.5, 0], {(1, 2): 9, (3, 4): 10}, [1, 0])
    assert (result.estimate.value, result.estimate.n, result.control.value, result.control.n) == (0.625, 4, 0.5, 2)
    assert (result.lift.value, result.success) == (0.125, True)
    assert evaluate_output_embedding(pairs, [1, 1, 0, 0], {}, []).success is False


def test_ten_of_ten_is_no_certainty_and_less_so_when_pairs_share_features():
    disjoint = [(2 * i, 2 * i + 1) for i in range(10)]
    sharing = list(itertools.combinations(range(5), 2))
    one = evaluate_output_embedding(disjoint, [1.0] * 10, {}, []).estimate
    other = evaluate_output_embedding(sharing, [1.0] * 10, {}, []).estimate
    assert other.low < one.low < 0.8
    assert one.high == other.high == 1


def test_without_pairs_there_is_a_status_and_without_controls_chance():
    assert evaluate_output_embedding([], [], {}, []).status is Status.NOT_APPLICABLE
    result = evaluate_output_embedding([(1, 2)], [1.0], {}, [])
    assert (result.control.value, result.control.n, result.details["control_is"]) == (1 / 3, 0, "chance")
    with pytest.raises(ValueError, match="2 hits on 1 pairs"):
        evaluate_output_embedding([(1, 2)], [1, 0], {}, [])


def planted_run(n_features, dimension, noise, seed=0):
    """Return each feature's meaning (n, d) and the contrasts of its noisy texts."""
    generator = np.random.default_rng(seed)
    meanings = generator.normal(size=(n_features, dimension))

    def texts(meaning):
        return meaning + noise * generator.normal(size=(3, dimension))

    return meanings, {i: contrast(EmbeddedSet(texts(m), texts(-m))) for i, m in enumerate(meanings)}


def test_planted_descriptions_win_and_shuffled_ones_are_at_chance():
    n = 60
    meanings, contrasts = planted_run(n, 32, noise=1.0)
    pool, everyone = plain_pool(n), range(n)
    right, wrong_rate, shuffled = [], [], []
    for feature in everyone:
        pairs = draw_pairs(0, feature, [i for i in everyone if i != feature], pool).report
        wrong = draw_wrong(0, feature, pairs, everyone, neighbours=[])
        controls = judge_wrong(dict(enumerate(meanings)), feature, wrong, contrasts)
        hits = judge_pairs(meanings[feature], feature, pairs, contrasts)
        result = evaluate_output_embedding(pairs, hits, wrong, controls)
        right.append(result.estimate.value)
        wrong_rate.append(result.control.value)
        others = [(feature + shift) % n for shift in range(1, n, 6)]
        shuffled += [np.mean(judge_pairs(meanings[other], feature, pairs, contrasts)) for other in others]
    assert np.mean(right) > 0.99
    assert np.mean(wrong_rate) == pytest.approx(1 / 3, abs=0.08)
    assert np.mean(shuffled) == pytest.approx(1 / 3, abs=0.08)


def test_what_all_descriptions_say_alike_changes_no_choice():
    n = 60
    meanings, contrasts = planted_run(n, 32, noise=1.0)
    units = meanings / np.linalg.norm(meanings, axis=1, keepdims=True)
    worded = units + 3 * np.random.default_rng(1).normal(size=32) / np.sqrt(32)  # "fires on …; then promotes …"
    pool = plain_pool(n)

    def rate(descriptions):
        pairs = {i: draw_pairs(0, i, [j for j in range(n) if j != i], pool).report for i in range(n)}
        return np.mean([judge_pairs(descriptions[i], i, pairs[i], contrasts) for i in range(n)])

    centred = [worded[i] - wording([worded[j] for j in range(n) if j != i]) for i in range(n)]
    assert rate(worded) < 0.9
    assert rate(centred) > 0.99
    assert rate(centred) == pytest.approx(rate(units), abs=0.02)


def test_few_descriptions_have_no_wording_and_equal_ones_say_nothing():
    same = np.array([1.0, 0, 0])
    assert wording([same] * 7) == 0
    assert judge_pairs(same - wording([same] * 8), 0, [(1, 2)], dict(enumerate(np.eye(3)))) == (pytest.approx(1 / 3),)


# -------------------------------------------------------------------------- judges that do not read the description


def odd_one_out(vectors):
    """Return the place of the set that is farthest from the middle of the other two."""
    middles = [(vectors[(i + 1) % 3] + vectors[(i + 2) % 3]) / 2 for i in range(3)]
    return int(np.argmax([np.linalg.norm(v - m) for v, m in zip(vectors, middles, strict=True)]))


def families(n_families, size, dimension=16):
    """Return contrasts of very different strengths and their pool, in families of near duplicates."""
    generator = np.random.default_rng(3)
    centres = generator.normal(size=(n_families, dimension)) * generator.exponential(size=(n_families, 1))
    vectors = np.repeat(centres, size, axis=0) + 0.02 * generator.normal(size=(n_families * size, dimension))
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors, plain_pool(len(vectors), unit @ unit.T)


def odd_one_out_rate(vectors, pool, pairs_of):
    hits = []
    for feature in pool.features:
        eligible = eligible_distractors(feature, pool.cosines[feature], (0.5, -0.5), pool)
        hits += [odd_one_out(vectors[[feature, a, b]]) == 0 for a, b in pairs_of(feature, eligible)]
    return np.mean(hits)


def test_a_judge_that_looks_for_the_odd_set_out_is_right_one_time_in_three():
    vectors, pool = families(10, 3)
    rate = odd_one_out_rate(vectors, pool, lambda i, eligible: sum(draw_pairs(0, i, eligible, pool), ()))
    assert rate == pytest.approx(1 / 3, abs=0.05)


def test_distractors_that_resemble_each_other_would_give_the_answer_away():
    vectors, pool = families(10, 3)
    alike = Pool(pool.features, np.zeros_like(pool.cosines), pool.reached)  # forgets that they resemble each other

    def one_family(_, eligible):
        return [(a, b) for a, b in itertools.combinations(eligible, 2) if a // 3 == b // 3]

    assert all(alike.unlike(a, b) for a, b in one_family(0, range(30)))
    assert odd_one_out_rate(vectors, pool, one_family) > 0.9
    assert not any(pool.unlike(a, b) for a, b in one_family(0, range(30)))
