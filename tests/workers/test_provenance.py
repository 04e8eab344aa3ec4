"""Every piece of evidence of a run says what it was made from, by what, and how long it took."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from schema.evidence import Exemplars, TokenChange
from schema.release import release
from schema.store import corpora, database, dictionaries, evidence
from service.features import read_feature
from tests.tiny import BOS, tiny_corpus
from tests.workers.house import SMALL, House, open_house
from workers import recipes
from workers.loading import load_subject
from workers.memory import USUAL
from workers.methods.calibration import prompt_batch
from workers.methods.prompts_neutral import CALIBRATION, DESCRIBE, SCORE
from workers.subject import Subject

PATHS = {
    "exemplars": "truncated",
    "vocabulary": "weights",
    "calibration": "resumed",
    "token_change": "resumed",
    "steered_texts": "whole",
}


@pytest.fixture
def house(tmp_path: Path, database_url: str) -> Iterator[House]:
    with open_house(tmp_path, database_url, "http://127.0.0.1:1/v1") as opened:
        opened.submit(features="0-3", llm="none", methods=("lexical",), seed=7)
        opened.work()
        yield opened


def subject_of(house: House) -> Subject:
    with database.lend(house.pool) as connection:
        spec = dictionaries.get(connection, 1, house.dictionary_id).spec
    return load_subject(spec.subject, spec.revision, house.settings)


def documents(house: House, feature: int) -> dict[str, dict[str, Any]]:
    """Return what the API tells of a feature's provenance, by kind."""
    with database.lend(house.pool) as connection:
        found = read_feature(connection, house.dictionary_id, feature)
    return {kind: dict(one.document) for kind, one in found.provenance.items()}


def n_tokens(house: House) -> dict[str, int]:
    """Return how many counted tokens each kind rests on, from its record or from its prompts."""
    subject, found = subject_of(house), house.evidence(0)
    exemplars, change = found["exemplars"].record, found["token_change"].record
    assert isinstance(exemplars, Exemplars)
    assert isinstance(change, TokenChange)
    continued = (*DESCRIBE[: SMALL.n_steered_prompts], *SCORE[: SMALL.n_steered_prompts])
    return {
        "exemplars": exemplars.n_tokens,
        "vocabulary": 0,
        "calibration": int(prompt_batch(subject, CALIBRATION).counted.sum()),
        "token_change": change.n_positions,
        "steered_texts": sum(len(subject.tokenize(prompt.text)) for prompt in continued),
    }


def test_every_kind_of_evidence_says_all_that_it_was_made_from(house: House) -> None:
    with database.lend(house.pool) as connection:
        dictionary = dictionaries.get(connection, 1, house.dictionary_id)
        corpus = corpora.get(connection, 1, house.corpus_id)
    subject, read = subject_of(house), n_tokens(house)
    assert read["exemplars"] > 1000
    for feature in range(4):
        told = documents(house, feature)
        assert sorted(told) == sorted(PATHS)
        for kind, document in told.items():
            assert document.pop("seconds") > 0
            assert document.pop("parameters") is not None
            assert document == {
                "kind": kind,
                "version": recipes.VERSIONS[kind],
                "glossarium": release(),
                "torch": torch.__version__,
                "transformers": transformers.__version__,
                "subject": dictionary.spec.subject,
                "revision": subject.revision,
                "dtype": "float32",
                "device": "cpu",
                "threads": torch.get_num_threads(),
                "tokens_per_forward": USUAL["cpu"].tokens,
                "rows_per_batch": USUAL["cpu"].rows,
                "path": PATHS[kind],
                "dictionary": dictionary.digest,
                "corpus": corpus.sha256,
                "seed": 7,
                "n_tokens": read[kind],
            }


def test_contexts_are_stored_once_for_the_features_of_all_runs(house: House) -> None:
    def n_contexts() -> int:
        ((n_readings, n),) = house.query("SELECT count(DISTINCT reading_id), count(*) FROM context")
        assert n_readings == 1
        return int(str(n))

    before = n_contexts()
    house.submit(features="4-7", llm="none", methods=("lexical",), seed=7)
    house.work()
    found = [house.evidence(feature)["exemplars"].record for feature in range(4, 8)]
    halves = [half for one in found if isinstance(one, Exemplars) for half in (one.describe, one.score)]
    windows = [window for half in halves for _, some in half for window in some]
    assert 0 <= n_contexts() - before < len(windows) / 4
    corpus = "\n".join(tiny_corpus())
    assert all(window.text.removeprefix(BOS).strip() in corpus for window in windows)


def test_seconds_of_exemplars_are_those_of_all_shards_and_of_the_merge(house: House) -> None:
    (read,), (merged,) = (
        house.query(f"SELECT sum(seconds)::float8 FROM job WHERE stage = '{stage}'")[0]
        for stage in ("exemplars", "merge")
    )
    told = documents(house, 0)["exemplars"]["seconds"]
    assert 0.5 * read < told < read + merged


def test_parameters_are_those_of_the_kind(house: House) -> None:
    told = {kind: document["parameters"] for kind, document in documents(house, 0).items()}
    assert told["exemplars"]["k"] == SMALL.k_exemplars
    assert told["vocabulary"] == {"k": SMALL.k_tokens, "centred": False}
    assert told["calibration"]["targets"] == list(SMALL.kl_targets)
    assert told["token_change"]["contexts"] == SMALL.token_change_contexts
    assert told["steered_texts"]["tokens"] == SMALL.n_steered_tokens


def test_pieces_that_were_made_apart_have_their_own_provenance(house: House) -> None:
    first = house.evidence(0)["vocabulary"]
    elsewhere = first.provenance.model_copy(update={"document": first.provenance.document | {"dtype": "bfloat16"}})
    with database.lend(house.pool) as connection:
        evidence.put(connection, house.dictionary_id, "vocabulary", elsewhere, {1: first.record})
    assert [documents(house, feature)["vocabulary"]["dtype"] for feature in (0, 1)] == ["float32", "bfloat16"]
