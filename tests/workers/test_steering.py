"""Steered texts against one row at a time without a cache, whatever their company, and against what was planted."""

from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from schema.errors import InvalidInput, ShapeMismatch
from schema.evidence import Calibration, SteeredTexts
from schema.subjects import Site
from tests import tiny
from workers.methods.calibration import calibrate
from workers.methods.prompts_neutral import DESCRIBE, SCORE
from workers.methods.sampling import uniform
from workers.methods.steering import GenerationOptions, Row, generate, sample_tokens, steer
from workers.subject import Edit, Subject

TARGETS = (-0.5, -0.25, 0.25, 0.5)
OPTIONS = GenerationOptions(n_prompts=2, n_tokens=8, n_rows=16)


class Planted(NamedTuple):
    """The planted dictionary, calibrated."""

    subject: Subject
    site: Site
    directions: Tensor
    promoted: list[set[str]]
    calibrations: list[Calibration]


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    folder = tmp_path_factory.mktemp("planted")
    dictionary = tiny.planted_dictionary(folder / "dictionary", tiny.make_subject(folder / "subject"))
    subject, site = tiny.build_subject(), Site.parse(dictionary.spec.read_site)
    directions = subject.effective_directions(site, load_file(dictionary.weights)["w_dec"])[:12]
    promoted = [set(feature.promoted) for feature in dictionary.planted]
    return Planted(subject, site, directions, promoted, calibrate(subject, site, directions, TARGETS))


def _steer(planted: Planted, features: Sequence[int], seed: int = 0) -> dict[int, SteeredTexts]:
    chosen = list(features)
    made = steer(
        planted.subject,
        planted.site,
        planted.directions[chosen],
        [planted.calibrations[i] for i in chosen],
        chosen,
        seed,
        OPTIONS,
    )
    return dict(zip(chosen, made, strict=True))


def _rows(subject: Subject, n: int) -> list[Row]:
    """Return rows with prompts of three lengths and vectors of all sizes."""
    vectors = torch.randn(n, subject.d_model, generator=torch.Generator().manual_seed(1)) * torch.arange(n)[:, None] / 4
    texts = ("The river was", "The doctor was near the castle and", "It")
    return [Row(tuple(subject.tokenize(texts[i % 3])), vectors[i], (f"row{i}",)) for i in range(n)]


def _write_slowly(subject: Subject, site: Site, row: Row, options: GenerationOptions) -> tuple[int, ...]:
    """Return a row's tokens by a whole forward of the row alone for every token."""
    ids = [subject.sink_id, *row.prompt]
    for step in range(options.n_tokens):
        logits = subject.unembed(subject.hidden(subject.batch([ids]), Edit.add(site, row.vector[None], torch.ones(1))))
        probabilities = torch.softmax(logits[0, -1].double() / options.temperature, 0).tolist()
        goal = uniform("steering", *row.keys, step)
        token = next(i for i, total in enumerate(accumulate(probabilities)) if total > goal)
        if token in subject.special_ids:
            break
        ids.append(token)
    return tuple(ids[1 + len(row.prompt) :])


# ------------------------------------------------------------------------------------------------------------ sampling


def test_a_token_is_where_the_cumulative_probability_passes_the_uniform() -> None:
    logits = torch.tensor([0.25, 0.5, 0.25]).log().repeat(6, 1)
    uniforms = torch.tensor([0.01, 0.24, 0.26, 0.74, 0.76, 0.99], dtype=torch.float64)
    assert sample_tokens(logits, uniforms, 1.0).tolist() == [0, 0, 1, 1, 2, 2]


def test_temperature_sharpens() -> None:
    # At temperature 0.5 probabilities are squared: 1/6, 4/6, 1/6.
    logits = torch.tensor([0.25, 0.5, 0.25]).log().repeat(4, 1)
    uniforms = torch.tensor([0.16, 0.17, 0.83, 0.84], dtype=torch.float64)
    assert sample_tokens(logits, uniforms, 0.5).tolist() == [0, 1, 1, 2]


def test_the_largest_uniform_never_finds_a_token_without_probability() -> None:
    logits = torch.cat([torch.zeros(30_000), torch.full((20_000,), -torch.inf)])[None]
    largest = torch.tensor([1.0 - 2.0**-53], dtype=torch.float64)
    assert sample_tokens(logits, largest, 0.75).item() < 30_000


def test_frequencies_are_the_probabilities() -> None:
    n = 40_000
    probabilities = torch.tensor([0.1, 0.6, 0.3])
    drawn = sample_tokens(probabilities.log().repeat(n, 1), uniform("test", torch.arange(n)), 1.0)
    assert (torch.bincount(drawn, minlength=3) / n).tolist() == pytest.approx(probabilities.tolist(), abs=0.01)


# ---------------------------------------------------------------------------------------------------------- generation


@pytest.mark.parametrize(
    ("arch", "site"), [("llama", "resid_post.1"), ("gpt2", "mlp_hidden.2"), ("gemma2", "attn_out.1")]
)
def test_texts_equal_one_row_at_a_time_without_a_cache(arch: str, site: str) -> None:
    subject, place = tiny.build_subject(arch, block_scale=0.2), Site.parse(site)
    rows = _rows(subject, 7)
    options = GenerationOptions(n_tokens=6, n_rows=4)
    slowly = [_write_slowly(subject, place, row, options) for row in rows]
    assert generate(subject, place, rows, options) == slowly
    assert len({len(row.prompt) for row in rows}) == 3


def test_a_text_does_not_depend_on_the_rows_beside_it(planted: Planted) -> None:
    subject, site = planted.subject, planted.site
    rows = _rows(subject, 9)
    together = generate(subject, site, rows, OPTIONS)
    assert generate(subject, site, rows[::-1], OPTIONS) == together[::-1]
    assert [generate(subject, site, [row], OPTIONS)[0] for row in rows] == together


def test_a_text_ends_before_the_end_token() -> None:
    subject, last = tiny.build_subject(), Site("resid_post", 3)
    eos = subject.tokenizer.eos_token_id
    assert eos in subject.special_ids
    subject.unembedding[eos] *= 100.0  # so that the direction alone decides
    ending, prompt = 1e4 * subject.unembedding[eos], tuple(subject.tokenize("The river was"))
    texts = generate(subject, last, [Row(prompt, ending, ("a",)), Row(prompt, -ending, ("b",))], OPTIONS)
    assert texts[0] == ()
    assert len(texts[1]) == OPTIONS.n_tokens


def test_what_follows_the_end_token_is_cut() -> None:
    subject = tiny.build_subject()
    row = _rows(subject, 1)[0]
    whole = generate(subject, Site("resid_post", 1), [row], OPTIONS)[0]
    assert len(set(whole)) == len(whole)  # so that each token tells where the text was cut
    subject.special_ids = frozenset({*subject.special_ids, whole[5]})
    assert generate(subject, Site("resid_post", 1), [row], OPTIONS)[0] == whole[:5]


def test_equal_keys_draw_the_same_text_and_other_keys_another(planted: Planted) -> None:
    subject, site = planted.subject, planted.site
    row = _rows(subject, 1)[0]
    texts = generate(subject, site, [row, row, Row(row.prompt, row.vector, ("other",))], OPTIONS)
    assert texts[0] == texts[1] != texts[2]


def test_no_rows_give_no_texts(planted: Planted) -> None:
    assert generate(planted.subject, planted.site, [], OPTIONS) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (GenerationOptions(n_prompts=9), r"n_prompts=9; must be 1\.\.8"),
        (GenerationOptions(n_tokens=0), "n_tokens=0"),
        (GenerationOptions(temperature=0.0), r"temperature=0\.0"),
        (GenerationOptions(n_rows=0), "n_rows=0"),
    ],
)
def test_options_out_of_range_are_named(planted: Planted, options: GenerationOptions, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        generate(planted.subject, planted.site, [], options)


# -------------------------------------------------------------------------------------------------------- steered texts


def test_texts_are_the_same_whatever_the_order_and_sharding_of_features(planted: Planted) -> None:
    whole = _steer(planted, range(12))
    assert _steer(planted, reversed(range(12))) == whole
    shards = [[7, 2, 11], [0], [10, 9, 8, 6, 5, 4, 3, 1]]
    assert {i: texts for shard in shards for i, texts in _steer(planted, shard).items()} == whole


def test_every_reached_target_has_a_text_for_every_prompt_in_both_halves(planted: Planted) -> None:
    texts = _steer(planted, [3])[3]
    for half, prompts in ((texts.describe, DESCRIBE), (texts.score, SCORE)):
        found = [(text.target_kl_nats, text.prompt) for text in half]
        assert found == [(target, prompt.text) for target in (*TARGETS, 0.0) for prompt in prompts[:2]]
    assert not {text.prompt for text in texts.describe} & {text.prompt for text in texts.score}


def test_a_target_that_was_not_reached_has_no_text(planted: Planted) -> None:
    missed = tuple(t.model_copy(update={"reached": t.target_kl_nats != 0.5}) for t in planted.calibrations[0].targets)
    calibration = planted.calibrations[0].model_copy(update={"targets": missed})
    texts = steer(planted.subject, planted.site, planted.directions[:1], [calibration], [0], 0, OPTIONS)[0]
    assert {text.target_kl_nats for text in texts.describe} == {-0.5, -0.25, 0.0, 0.25}
    reached = _steer(planted, [0])[0]
    assert texts.score == tuple(text for text in reached.score if text.target_kl_nats != 0.5)


def test_unsteered_texts_are_the_subjects_own_and_shared_by_all_features(planted: Planted) -> None:
    texts = _steer(planted, [0, 5])
    unsteered = [[text for text in texts[i].score if text.target_kl_nats == 0] for i in (0, 5)]
    assert unsteered[0] == unsteered[1]
    prompt = SCORE[0]
    row = Row(
        tuple(planted.subject.tokenize(prompt.text)),
        torch.zeros(planted.subject.d_model),
        (0, "score", -1, 0.0, prompt.name),
    )
    assert unsteered[0][0].text == planted.subject.tokenizer.decode(
        _write_slowly(planted.subject, planted.site, row, OPTIONS)
    )


def test_another_seed_writes_other_texts(planted: Planted) -> None:
    first, second = _steer(planted, [4]), _steer(planted, [4], seed=1)
    assert [text.text for text in first[4].score] != [text.text for text in second[4].score]
    assert first == _steer(planted, [4])


def test_amplified_texts_use_the_planted_words_more_and_suppressed_ones_less(planted: Planted) -> None:
    counts = dict.fromkeys((*TARGETS, 0.0), 0)
    features = range(len(planted.directions))
    many = GenerationOptions(n_prompts=3, n_tokens=25, n_rows=64)
    made = steer(planted.subject, planted.site, planted.directions, planted.calibrations, features, 0, many)
    for feature, texts in zip(features, made, strict=True):
        for text in (*texts.describe, *texts.score):
            counts[text.target_kl_nats] += sum(word in planted.promoted[feature] for word in text.text.split())
    # The unsteered rate is measured on 6 texts a feature as well, though they are the same ones.
    assert counts[0.5] > counts[0.25] > 3 * counts[0.0]
    assert counts[-0.5] <= counts[-0.25] < counts[0.0]


def test_no_features_give_no_texts(planted: Planted) -> None:
    assert _steer(planted, []) == {}


def test_directions_calibrations_and_features_must_be_as_many(planted: Planted) -> None:
    with pytest.raises(ShapeMismatch, match=r"\(2, 1, 2\)"):
        steer(planted.subject, planted.site, planted.directions[:2], planted.calibrations[:1], [0, 1], 0, OPTIONS)
