import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schema.labels import Status
from workers.methods.input_evaluation import SentenceActivations, evaluate_input, halve_sentences
from workers.methods.output_evaluation import Pool, draw_pairs, judge_pairs
from workers.methods.selection import Candidate, HitHalves, choose
from workers.methods.statistics import auroc


def sentences(activating, neutral):
    both = SentenceActivations(np.array(activating, dtype=float), np.array(neutral, dtype=float))
    return halve_sentences(both, seed=0, feature=0)


GOOD, BAD, SILENT = sentences([5] * 6, [0] * 6), sentences([0] * 6, [5] * 6), sentences([0] * 6, [0] * 6)
HITS, MISSES = HitHalves((1.0,) * 10, (1.0,) * 10), HitHalves((0.0,) * 10, (0.0,) * 10)


def candidate(text, own=None, hits=None, controls=(SILENT,)):
    return Candidate(text, Status.OK, own, tuple(controls), hits)


def test_hand_worked_standing():
    mixed = HitHalves((1, 1, 0.5, 0), (0, 0, 0, 0))
    choice = choose([candidate("a", GOOD, mixed, [SILENT, BAD])], seed=0)
    standing = choice.standings[0]
    assert (choice.winner, choice.status) == (0, Status.OK)
    assert standing.output == 0.625
    assert standing.input == 1 - 0.25
    assert standing.value == pytest.approx(1.375)
    assert standing.low == pytest.approx(0.75 + standing.output_low)
    assert standing.output_low < 0.625


def test_better_on_both_sides_wins_whatever_its_length():
    choice = choose([candidate("bad", BAD, MISSES), candidate("a long but true description", GOOD, HITS)], seed=0)
    assert (choice.winner, choice.best_input, choice.best_output) == (1, 1, 1)


def test_facets_have_their_own_best():
    reads_well, steers_well = candidate("reads", GOOD, MISSES), candidate("steers", SILENT, HITS)
    choice = choose([reads_well, steers_well], seed=0)
    assert (choice.best_input, choice.best_output, choice.winner) == (0, 1, 1)


def test_a_steady_candidate_beats_a_lucky_one_of_the_same_mean():
    steady, lucky = HitHalves((0.5,) * 10, (0.5,)), HitHalves((1.0, 0.0) * 5, (0.5,))
    assert choose([candidate("x", hits=lucky), candidate("longer", hits=steady)], seed=0).winner == 1


def test_fifth_percentile_equals_a_plain_loop():
    generator = np.random.default_rng(0)
    hits = tuple(generator.integers(0, 2, 10).astype(float))
    own = sentences(generator.normal(1, size=10), generator.normal(size=10))
    standing = choose([candidate("a", own, HitHalves(hits, ()))], seed=0, n_resamples=8000).standings[0]
    totals = []
    for _ in range(8000):
        activating, neutral = (generator.choice(side, len(side)) for side in own.choose)
        totals.append(np.mean(generator.choice(hits, 10)) + auroc(activating, neutral) - 0.5)
    assert standing.low == pytest.approx(np.percentile(totals, 5), abs=0.03)


def test_equal_candidates_are_resampled_alike_and_the_shorter_text_wins():
    own, hits = sentences([3, 1, 2, 5, 0, 2], [1, 1, 2, 0, 0, 1]), HitHalves((1, 0, 1, 1, 0, 0.5), (1,))
    choice = choose([candidate("a long one", own, hits), candidate("short", own, hits)], seed=4)
    assert choice.standings[0].low == choice.standings[1].low
    assert choice.winner == 1
    assert choose([candidate("b", own, hits), candidate("a", own, hits)], seed=4).winner == 1


@settings(max_examples=30, deadline=None)
@given(st.permutations(range(5)), st.integers(0, 100))
def test_the_order_of_candidates_changes_no_verdict(order, seed):
    generator = np.random.default_rng(seed)
    candidates = [
        candidate(
            f"text {i}",
            sentences(generator.integers(0, 3, 5), generator.integers(0, 3, 5)) if i else None,
            HitHalves(tuple(generator.integers(0, 2, 6).astype(float)), (1.0,)),
        )
        for i in range(5)
    ]
    before = choose(candidates, seed=seed, n_resamples=200)
    after = choose([candidates[i] for i in order], seed=seed, n_resamples=200)
    assert [order[i] for i in (after.winner, after.best_input, after.best_output)] == [
        before.winner, before.best_input, before.best_output,
    ]  # fmt: skip


def test_an_untested_side_counts_as_a_description_that_says_nothing():
    untested, backwards, good = candidate("untested"), candidate("b", BAD, MISSES), candidate("g", GOOD, HITS)
    assert choose([untested, backwards], seed=0).winner == 0
    assert choose([untested, good], seed=0).winner == 1
    standing = choose([untested], seed=0).standings[0]
    assert (standing.value, standing.input, standing.output) == (pytest.approx(1 / 3), None, None)


def test_a_tested_description_beats_an_untested_one_that_it_can_not_be_told_from():
    half_right, silent = HitHalves((1.0, 0.0) * 5, (1.0,)), sentences([0] * 6, [0] * 6)
    choice = choose([candidate("u"), candidate("tested and longer", silent, half_right)], seed=0)
    assert choice.winner == 1
    assert choice.standings[0].low < choice.standings[1].low


def test_only_descriptions_that_are_ok_compete():
    refused = Candidate(None, Status.REFUSED)
    no_pattern = Candidate("no clear pattern", Status.NO_PATTERN, GOOD, (SILENT,), HITS)
    choice = choose([refused, no_pattern, candidate("weak", BAD, MISSES)], seed=0)
    assert choice.winner == 2
    assert len(choice.standings) == 1


def test_without_any_ok_description_the_label_has_their_status_and_no_text():
    statuses = [Status.UNPARSED, Status.NO_PATTERN, Status.NO_PATTERN]
    choice = choose([Candidate(None, status) for status in statuses], seed=0)
    assert (choice.winner, choice.status, choice.best_input) == (None, Status.NO_PATTERN, None)
    tied = [Candidate(None, Status.NO_PATTERN), Candidate(None, Status.REFUSED)]
    assert choose(tied, seed=0).status is choose(tied[::-1], seed=0).status is Status.REFUSED
    assert choose([], seed=0).status is Status.NOT_APPLICABLE


def test_a_label_without_report_items_is_unreported():
    assert choose([candidate("a")], seed=0).status is Status.UNREPORTED
    assert choose([candidate("a", hits=HitHalves((1.0,), ()))], seed=0).status is Status.UNREPORTED
    assert choose([candidate("a", hits=HitHalves((), (1.0,)))], seed=0).status is Status.OK
    assert choose([candidate("a", sentences([1], [0]))], seed=0).status is Status.OK  # the only sentences are reported


def test_candidates_judged_on_other_pairs_are_refused():
    with pytest.raises(ValueError, match=r"\[1, 2\] choose pairs"):
        choose([candidate("a", hits=HitHalves((1,), ())), candidate("b", hits=HitHalves((1, 0), ()))], seed=0)
    with pytest.raises(ValueError, match="no text"):
        choose([Candidate("", Status.OK)], seed=0)


def test_report_items_take_no_part_in_the_choice():
    def with_reports(report, hits):
        own, control = (whole._replace(report=report) for whole in (GOOD, SILENT))
        one = candidate("a", own, HitHalves((1, 0, 1), hits), [control])
        return choose([one, candidate("b", GOOD, HitHalves((1, 1, 0), hits[::-1]))], seed=0)

    assert with_reports(BAD.report, (1.0, 0.0)) == with_reports(GOOD.report, (0.0, 1.0))


# --------------------------------------------------------------------------------------------------- no winner's curse


def test_reported_values_of_winners_are_unbiased_while_their_choose_values_are_not():
    generator = np.random.default_rng(0)
    rate, shift, n = 0.6, 0.8, 300
    chosen_output, reported_output, chosen_input, reported_input = [], [], [], []
    for feature in range(n):
        candidates = []
        for i in range(6):
            hits = (generator.random(20) < rate).astype(float)
            own = SentenceActivations(generator.normal(shift, size=10), generator.normal(size=10))
            halves = halve_sentences(own, seed=0, feature=feature)
            candidates.append(candidate(f"{i}", halves, HitHalves(tuple(hits[:10]), tuple(hits[10:]))))
        choice = choose(candidates, seed=feature, n_resamples=200)
        winner, standing = candidates[choice.winner], choice.standings[choice.winner]
        chosen_output.append(standing.output)
        reported_output.append(np.mean(winner.hits.report))
        chosen_input.append(standing.input)
        reported_input.append(evaluate_input(winner.sentences.report, [], threshold=0, seed=0).estimate.value - 0.5)
    true_area = 0.7142 - 0.5  # of two normals 0.8 apart
    for chosen, reported, truth in [
        (chosen_output, reported_output, rate),
        (chosen_input, reported_input, true_area),
    ]:
        error = np.std(reported) / np.sqrt(n)
        assert abs(np.mean(reported) - truth) < 3 * error
        assert np.mean(chosen) - truth > 5 * error


def test_distractors_of_the_choice_do_not_flatter_the_report():
    """The pool holds easy and hard distractors; the truth is the winner's rate against pairs nobody has seen."""
    generator = np.random.default_rng(1)
    pool = Pool(tuple(range(32)), np.eye(32), (frozenset(),) * 32)
    chosen, errors = [], []
    for feature in range(200):
        vectors = generator.normal(size=(33, 6)) * generator.exponential(size=(33, 1))
        contrasts = dict(enumerate(vectors)) | {100: vectors[32]}
        descriptions = generator.normal(size=(8, 6)) + 0.3 * vectors[32]
        pairs = draw_pairs(feature, 100, range(32), pool)
        judged = [HitHalves(*(judge_pairs(d, 100, half, contrasts) for half in pairs)) for d in descriptions]
        choice = choose([candidate(f"{i}", hits=h) for i, h in enumerate(judged)], seed=feature, n_resamples=100)
        fresh = generator.normal(size=(400, 2, 6)) * generator.exponential(size=(400, 2, 1))
        description = descriptions[choice.winner]
        truth = np.mean((fresh @ description).max(axis=1) < vectors[32] @ description)
        errors.append(np.mean(judged[choice.winner].report) - truth)
        chosen.append(np.mean(judged[choice.winner].choose) - truth)
    standard_error = np.std(errors) / np.sqrt(len(errors))
    assert abs(np.mean(errors)) < 3 * standard_error
    assert np.mean(chosen) > 5 * standard_error
