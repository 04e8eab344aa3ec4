import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from schema.evidence import Exemplars, SplitExemplars, TokenList, Window
from schema.labels import Status
from workers.methods.free_scores import (
    cosines,
    evaluate_embedding_auroc,
    evaluate_free_input,
    evaluate_free_output,
    held_out_contexts,
    output_score,
)


def window(document, *tokens, peak=0):
    return Window(
        document=document,
        position=peak,
        peak=peak,
        tokens=tokens,
        activations=tuple(map(float, range(len(tokens)))),
    )


def exemplars(top=(), silent=(), hard=(), n_firing=5):
    def split(**parts):
        return SplitExemplars(
            **({"top": (), "uniform": (), "weighted": (), "silent": (), "hard_negatives": ()} | parts)
        )

    return Exemplars(
        n_tokens=100, n_firing=n_firing, threshold=0, sum=1, max=1, histogram_edges=(), histogram=(),
        describe=split(top=(window(99, "described"),)),
        score=split(top=tuple(top), silent=tuple(silent), hard_negatives=tuple(hard)),
    )  # fmt: skip


def tokens(*ids):
    return TokenList(ids=ids, tokens=tuple(f"t{i}" for i in ids), values=(1.0,) * len(ids))


def test_input_score_counts_held_out_peaks_among_the_promoted_tokens():
    held_out = [window(0, "x", "t1", peak=1), window(1, "t2"), window(2, "t1", "x", peak=1), window(3, "t9")]
    result = evaluate_free_input(exemplars(held_out), tokens(1, 2, 3), [tokens(9), tokens(7)], seed=0)
    assert (result.estimate.value, result.estimate.n) == (0.5, 4)
    assert result.control.value == pytest.approx((0.25 + 0) / 2)
    assert result.lift.value == pytest.approx(0.375)


def test_only_the_twenty_most_promoted_tokens_count():
    result = evaluate_free_input(exemplars([window(0, "t19"), window(1, "t20")]), tokens(*range(50)), [], seed=0)
    assert result.estimate.value == 0.5
    assert result.control is None


def test_a_feature_without_held_out_exemplars_has_no_input_score():
    dead = evaluate_free_input(exemplars(n_firing=0), tokens(1), [], seed=0)
    rare = evaluate_free_input(exemplars(n_firing=2), tokens(1), [], seed=0)
    assert (dead.status, rare.status) == (Status.DEAD, Status.TOO_RARE)
    assert (dead.estimate, rare.estimate) == (None, None)


def test_output_score_by_hand():
    logits = np.log([0.5, 0.3, 0.1, 0.1])
    assert output_score(logits, [0]) == pytest.approx(0.5)
    assert output_score(logits, [2, 1]) == pytest.approx((1 - 1 / 4) * 0.3)
    assert output_score(logits, [3]) == pytest.approx((1 - 2 / 4) * 0.1)  # ties with token 2: two are higher


def test_output_score_equals_a_sorted_softmax():
    generator = np.random.default_rng(0)
    for _ in range(20):
        logits = generator.normal(scale=4, size=200)
        ids = generator.choice(200, 20, replace=False)
        probabilities = np.exp(logits) / np.exp(logits).sum()
        ranking = np.argsort(-logits).tolist()
        slow = (1 - min(ranking.index(i) for i in ids) / 200) * max(probabilities[i] for i in ids)
        assert output_score(logits.astype(np.float64), ids) == pytest.approx(slow)


def test_output_score_does_not_overflow_and_refuses_nan():
    assert output_score(np.array([1e4, 0.0, 0.0]), [0]) == pytest.approx(1.0)
    with pytest.raises(ValueError, match="finite"):
        output_score(np.array([np.nan, 0.0]), [0])
    with pytest.raises(ValueError, match="at least one token"):
        output_score(np.array([1.0, 0.0]), [])


def test_planted_output_beats_another_features_tokens():
    logits = np.zeros(100)
    logits[7] = 10.0
    result = evaluate_free_output(logits, tokens(7, 8), [tokens(1, 2), tokens(3)], seed=0)
    assert result.estimate.value > 0.99
    assert result.estimate.n == 1
    assert result.estimate.low < 0.5 < result.estimate.high
    assert result.control.value < 0.01


def test_embedding_auroc_equals_sklearn_on_cosines():
    generator = np.random.default_rng(0)
    description, firing, silent = generator.normal(size=8), generator.normal(size=(6, 8)), generator.normal(size=(9, 8))
    result = evaluate_embedding_auroc(description, firing, silent, [], seed=0)
    rows = np.concatenate([firing, silent])
    scores = rows @ description / np.linalg.norm(rows, axis=1)
    assert result.estimate.value == pytest.approx(roc_auc_score([1] * 6 + [0] * 9, scores))
    assert (result.control.value, result.control.n, result.details["control_is"]) == (0.5, 0, "chance")


def test_embedding_auroc_is_controlled_by_other_descriptions_on_the_same_contexts():
    firing, silent = np.array([[1, 0.1], [1, 0.2]]), np.array([[0.1, 1], [0.2, 1]])
    result = evaluate_embedding_auroc(
        np.array([2.0, 0]), firing, silent, [np.array([0, 1.0]), np.array([1, 0])], seed=0
    )
    assert (result.estimate.value, result.control.value, result.control.n) == (1.0, 0.5, 2)
    assert result.details["gini"] == 1.0


def test_exemplars_that_are_there_twice_stay_within_the_interval_of_the_embedding_auroc():
    generator = np.random.default_rng(1)
    for n_twice in range(7):
        description, firing = generator.normal(size=8), generator.normal(0.3, size=(6, 8))
        silent = generator.normal(size=(9, 8))
        before = evaluate_embedding_auroc(description, firing, silent, [], seed=0).estimate
        more = np.concatenate([firing, firing[:n_twice]])
        after = evaluate_embedding_auroc(description, more, silent, [], seed=0).estimate
        assert before.low <= after.value <= before.high
    assert n_twice == len(firing)
    assert after.value == pytest.approx(before.value)


def test_embedding_auroc_needs_contexts_on_both_sides():
    result = evaluate_embedding_auroc(np.ones(3), np.empty((0, 3)), np.ones((2, 3)), [], seed=0)
    assert (result.status, result.estimate) == (Status.NOT_APPLICABLE, None)
    assert "0 contexts where it fires and 2" in result.reason


def test_cosine_to_nothing_is_zero():
    assert cosines(np.array([3.0, 4.0]), np.array([[6.0, 8.0], [0.0, 0.0]])).tolist() == pytest.approx([1.0, 0.0])


def test_contexts_to_embed_are_held_out_and_each_once():
    shared = window(2, "quiet")
    contexts = held_out_contexts(
        exemplars([window(0, "loud"), window(1, "loud")], [shared], [shared, window(3, "near")])
    )
    assert contexts == (("loud",), ("quiet", "near"))
