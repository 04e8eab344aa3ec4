"""What labels are made from: nothing that makes them is forgotten, and nothing else is among it."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args
from uuid import uuid4

import pytest

from prompts.loader import prompt_ids
from prompts.used import prompts_used
from schema.records import Evaluation, Method, RunOptions, RunSpec
from schema.store import database, run_features
from tests.llm_server import LLMServer
from tests.workers.house import SMALL, House, open_house
from workers.ingredients import ingredients


@pytest.fixture
def house(tmp_path: Path, database_url: str) -> Iterator[House]:
    with LLMServer() as server, open_house(tmp_path, database_url, server.base_url) as opened:
        yield opened


def test_features_do_not_matter_and_options_do(house: House) -> None:
    def made(**changes: object) -> dict[str, str]:
        run_id = house.submit(**changes)
        with database.lend(house.pool) as connection:
            return ingredients(run_features.brief(connection, run_id), "a" * 64, house.settings)

    first = made()
    assert made(features="1,3") == first
    assert set(first) == {"evidence", "prompt", "model", "procedure"}
    other = made(options=SMALL.model_copy(update={"judge_trials": 2}))
    assert {name for name in first if other[name] != first[name]} == {"procedure"}
    reseeded = made(seed=1)
    assert {name for name in first if reseeded[name] != first[name]} == {"evidence", "procedure"}


def test_every_prompt_file_is_one_that_some_run_uses() -> None:
    whole = {"methods": get_args(Method), "evaluations": get_args(Evaluation)}
    own = prompts_used(RunSpec.model_validate({"dictionary_id": uuid4(), **whole}))
    papers = prompts_used(RunSpec(dictionary_id=uuid4(), options=RunOptions(prompts="paper"), methods=get_args(Method)))
    newest: dict[str, str] = {}
    for id_ in sorted(prompt_ids(), key=lambda id_: int(re.sub(r"\D", "", id_.rsplit(".v", 1)[1]))):
        newest[id_.rsplit(".v", 1)[0]] = id_
    assert {*own, *papers} == set(newest.values())


def test_a_run_without_llm_work_uses_no_describers_prompt() -> None:
    spec = RunSpec(dictionary_id=uuid4(), methods=("lexical",), evaluations=("output",))
    assert set(prompts_used(spec)) == {"repair/reply.v1"}
