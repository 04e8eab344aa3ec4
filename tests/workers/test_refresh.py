"""The nightly refresh: a run about what is stale and nothing else, and what it changed."""

import json
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import UUID

import pytest

from schema.labels import Label, Status
from schema.records import RunSpec
from schema.schedules import Policy, Refresh, ScheduleSpec
from schema.store import corpora, database, labels, refreshes, runs, schedules
from tests.llm_server import LLMServer
from tests.workers.house import SMALL, House, open_house
from workers import recipes
from workers.refresh import refresh

FEW = SMALL.model_copy(
    update={
        "pool_size": 4,
        "judge_trials": 1,
        "embedding_pairs": 4,
        "n_sentences": 3,
        "n_steered_prompts": 1,
        "n_steered_tokens": 4,
        "token_change_contexts": 2,
    }
)
ALL = set(range(6))
DEFAULTS = Policy()


@pytest.fixture
def server() -> Iterator[LLMServer]:
    with LLMServer() as running:
        yield running


class Night:
    """A schedule of a house, whose slots come when a test says so."""

    def __init__(self, house: House, schedule_id: UUID) -> None:
        self.house, self.schedule_id = house, schedule_id

    def fall(self) -> Refresh:
        """Let the slot of a minute come, and return what it led to once all work is done."""
        opened = self.begin()
        self.house.work()
        refresh(self.house.pool, self.house.settings)
        return self.slot(opened.id)

    def pass_idly(self) -> Refresh:
        """Let a slot come whose run makes nothing, and return it."""
        opened = self.begin()
        self.house.query("UPDATE job SET state = 'dead' WHERE state <> 'done' RETURNING id")
        self.house.query("UPDATE run SET state = 'done' RETURNING id")
        refresh(self.house.pool, self.house.settings)
        return self.slot(opened.id)

    def begin(self) -> Refresh:
        """Let a slot come and return what it led to so far."""
        with database.lend(self.house.pool) as connection:
            connection.execute(
                "INSERT INTO refresh (schedule_id, slot, state) "
                "SELECT %s, coalesce(max(slot), '2026-01-01') + interval '1 day', 'due' FROM refresh",
                (self.schedule_id,),
            )
        refresh(self.house.pool, self.house.settings)
        with database.lend(self.house.pool) as connection:
            return refreshes.page(connection, self.schedule_id, limit=1)[0]

    def slot(self, id_: UUID) -> Refresh:
        with database.lend(self.house.pool) as connection:
            return refreshes.get(connection, 1, self.schedule_id, id_)

    def features(self, found: Refresh) -> set[int]:
        """Return the features that a refresh was about."""
        return {
            row[0] for row in self.house.query("SELECT feature FROM refresh_feature WHERE refresh_id = %s", found.id)
        }  # type: ignore[misc]

    def change(self, **changes: object) -> None:
        """Change the schedule's policy or spec, as by an operator."""
        for name, value in changes.items():
            path = "{" + name.replace("__", ",") + "}"
            self.house.query(
                "UPDATE schedule SET spec = jsonb_set(spec, %s, %s::jsonb) WHERE id = %s RETURNING id",
                path,
                json.dumps(value),
                self.schedule_id,
            )


@pytest.fixture
def house(tmp_path: Path, database_url: str, server: LLMServer) -> Iterator[House]:
    with open_house(tmp_path, database_url, server.base_url) as opened:
        yield opened


@pytest.fixture
def night_of(house: House) -> Callable[..., Night]:
    """Return a maker of schedules about the first six features of the house."""

    def make(policy: Policy = DEFAULTS, **changes: object) -> Night:
        run = {
            "dictionary_id": house.dictionary_id,
            "features": "0-5",
            "methods": ("lexical", "max_activating"),
            "corpus": str(house.corpus_id),
            "options": FEW,
        }
        spec = ScheduleSpec(
            name="nightly", run=RunSpec.model_validate({**run, **changes}), policy=policy, cron="0 3 * * *"
        )
        with database.lend(house.pool) as connection:
            return Night(house, schedules.create(connection, 1, uuid.uuid4(), spec).id)

    return make


@pytest.fixture
def night(night_of: Callable[..., Night]) -> Night:
    """Return a schedule whose first night is over: all its features have labels."""
    made = night_of()
    assert made.fall().changes == {"new": 6}
    return made


def test_the_first_night_labels_everything_and_the_second_finds_nothing_to_do(
    night_of: Callable[..., Night], server: LLMServer
) -> None:
    night = night_of()
    first = night.fall()
    assert (first.state, first.reasons, first.changes) == ("done", {"unlabelled": 6}, {"new": 6})
    assert (first.n_stale, first.n_features) == (6, 6)
    assert first.run_id is not None
    assert night.house.run(first.run_id).state == "done"
    n_calls, n_runs = len(server.chats), len(night.house.query("SELECT id FROM run"))
    second = night.fall()
    assert (second.state, second.run_id, second.n_stale) == ("nothing", None, 0)
    assert len(server.chats) == n_calls
    assert len(night.house.query("SELECT id FROM run")) == n_runs


def test_a_run_that_a_user_asked_for_the_same_way_leaves_nothing_to_do(night_of: Callable[..., Night]) -> None:
    night = night_of()
    night.house.submit(features="0-3", methods=("lexical", "max_activating"), options=FEW)
    night.house.work()
    assert night.features(night.fall()) == {4, 5}


def test_only_what_is_stale_is_in_the_run(night: Night, server: LLMServer) -> None:
    night.house.query("UPDATE feature SET label_id = NULL, label = NULL WHERE index IN (1, 4) RETURNING index")
    n_calls = len(server.chats)
    found = night.fall()
    assert (found.reasons, found.changes) == ({"unlabelled": 2}, {"new": 2})
    assert found.run_id is not None
    assert night.house.run(found.run_id).spec.features == "1,4"
    assert len(server.chats) == n_calls  # all that they are made from was known


@pytest.mark.parametrize(
    ("part", "alter"),
    [
        ("evidence", lambda night, monkeypatch: monkeypatch.setitem(recipes.VERSIONS, "vocabulary", 99)),
        ("prompt", lambda night, monkeypatch: monkeypatch.setattr("workers.ingredients.prompts_used", lambda spec: {})),
        ("model", lambda night, monkeypatch: object.__setattr__(night, "house", _with(night.house, llm_model="other"))),
        ("procedure", lambda night, monkeypatch: night.change(run__options__judge_trials=2)),
    ],
)
def test_a_changed_ingredient_makes_all_labels_stale_and_is_named(
    night: Night, part: str, alter: Callable[[Night, pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    alter(night, monkeypatch)
    found = night.fall()
    assert (found.state, found.reasons) == ("done", {part: 6})
    assert night.fall().state == "nothing"


def _with(house: House, **changes: object) -> House:
    return house._replace(settings=house.settings.model_copy(update=changes))


def test_labels_of_earlier_versions_are_made_anew(night: Night) -> None:
    night.house.query("UPDATE run SET ingredients = NULL RETURNING id")
    assert night.fall().reasons == {"evidence": 6}


def test_of_those_that_changed_only_low_or_old_ones_where_the_policy_says_so(night: Night) -> None:
    night.change(policy__changed=False, policy__input_lift_below=0.1, policy__older_than_days=30)
    query = night.house.query
    query("UPDATE feature SET input_lift = CASE index WHEN 2 THEN -0.3 WHEN 3 THEN NULL ELSE 0.5 END RETURNING index")
    query("UPDATE label SET created_at = created_at - interval '31 days' WHERE feature = 5 RETURNING id")
    assert night.fall().state == "nothing"  # made from the same, they would be the same again
    night.change(run__options__judge_trials=2)
    found = night.begin()
    assert found.reasons == {"low_score": 2, "old": 1}
    assert night.features(found) == {2, 3, 5}


def test_low_output_scores_count_as_well(night: Night) -> None:
    night.change(policy__changed=False, policy__output_lift_below=0.1, run__options__judge_trials=2)
    night.house.query("UPDATE feature SET output_lift = index * 0.04 RETURNING index")
    assert night.features(night.begin()) == {0, 1, 2}


@pytest.mark.parametrize("status", [Status.UNPARSED, Status.REFUSED, Status.FAILED])
def test_a_failed_status_is_tried_again_but_not_for_ever(night: Night, status: Status) -> None:
    spoil = "UPDATE feature SET status = %s, label = NULL WHERE index = 3 RETURNING index"
    night.house.query(spoil, status)
    for _ in range(2):
        assert night.pass_idly().reasons == {"failed": 1}
    assert night.pass_idly().state == "nothing"  # that was the third time, with the first night
    night.change(run__options__judge_trials=2)  # something else may help
    assert night.pass_idly().reasons == {"failed": 1, "procedure": 5}


@pytest.mark.parametrize("status", [Status.DEAD, Status.TOO_RARE, Status.NO_PATTERN, Status.UNREACHABLE])
def test_a_status_that_evidence_decides_is_not_tried_again(night: Night, status: Status) -> None:
    night.house.query("UPDATE feature SET status = %s WHERE index = 3 RETURNING index", status)
    assert night.fall().state == "nothing"


def test_what_a_describer_refused_is_asked_again(night_of: Callable[..., Night], server: LLMServer) -> None:
    night = night_of(methods=("max_activating",), features="0-1")
    server.mode = "refuse"
    night.fall()
    server.mode = "ok"
    found = night.fall()
    assert found.reasons == {"failed": 2}
    assert found.changes == {"new": 2}


def test_what_a_dead_job_left_without_a_label_is_tried_again(night_of: Callable[..., Night]) -> None:
    night = night_of()
    first = night.pass_idly()
    assert (first.state, first.changes) == ("done", {"same": 6})
    assert night.fall().changes == {"new": 6}


def test_policies_can_be_switched_off(night_of: Callable[..., Night]) -> None:
    night = night_of(Policy(unlabelled=False))
    assert night.fall().state == "nothing"


def test_a_label_by_a_person_is_left_alone(night: Night) -> None:
    mine = Label(feature=2, text="mine", status=Status.OK, method=None, description_id=None, author="ada")
    with database.lend(night.house.pool) as connection:
        labels.publish(connection, night.house.dictionary_id, None, mine, "by hand")
    night.change(run__options__judge_trials=2)
    found = night.fall()
    assert night.features(found) == ALL - {2}
    assert found.run_id is not None
    assert night.house.run(found.run_id).spec.features == "0-1,3-5"
    with database.lend(night.house.pool) as connection:
        current = labels.current(connection, night.house.dictionary_id, 2)
    assert current is not None
    assert current.text == "mine"


def test_a_label_that_a_person_writes_meanwhile_stays_and_the_diff_says_so(night: Night) -> None:
    night.change(run__options__judge_trials=2)
    opened = night.begin()
    mine = Label(feature=2, text="mine", status=Status.OK, method=None, description_id=None, author="ada")
    with database.lend(night.house.pool) as connection:
        labels.publish(connection, night.house.dictionary_id, None, mine, "by hand")
    night.house.work()
    refresh(night.house.pool, night.house.settings)
    assert night.slot(opened.id).changes["edited"] == 1
    with database.lend(night.house.pool) as connection:
        (edited,) = refreshes.diff(connection, opened.id, ["edited"])
    assert edited.after is not None
    assert (edited.feature, edited.after.label) == (2, "mine")


def test_a_diff_has_old_and_new_labels_with_scores(night: Night) -> None:
    query = night.house.query
    query("UPDATE feature SET label = 'an old label', input_lift = 0.25 WHERE index = 0 RETURNING index")
    query("UPDATE feature SET label = NULL WHERE index = 1 RETURNING index")
    query("UPDATE feature SET input_lift = 0.25 WHERE index = 2 RETURNING index")
    was = dict(query("SELECT index, label FROM feature WHERE index < 6"))  # type: ignore[arg-type, var-annotated]
    night.change(run__options__judge_trials=2)
    opened = night.begin()
    with database.lend(night.house.pool) as connection:
        before = refreshes.diff(connection, opened.id)
    assert [(item.feature, item.change, item.after) for item in before] == [
        (feature, None, None) for feature in range(6)
    ]
    night.house.work()
    query("UPDATE feature SET label = NULL, status = 'unparsed' WHERE index = 3 RETURNING index")
    refresh(night.house.pool, night.house.settings)
    closed = night.slot(opened.id)
    with database.lend(night.house.pool) as connection:
        found = {item.feature: item for item in refreshes.diff(connection, opened.id)}
        page = refreshes.diff(connection, opened.id, after=0, limit=1)
    assert closed.changes == {"changed": 1, "new": 1, "rescored": 1, "lost": 1, "same": 2}
    assert {feature: item.change for feature, item in found.items()} == {
        0: "changed",
        1: "new",
        2: "rescored",
        3: "lost",
    }
    assert [item.feature for item in page] == [1]
    changed, lost = found[0], found[3]
    assert changed.after is not None
    assert (changed.before.label, changed.before.input_lift) == ("an old label", 0.25)
    assert changed.after.label not in (None, "an old label")
    assert lost.after is not None
    assert (lost.before.label, lost.after.label, lost.after.status) == (was[3], None, "unparsed")


def test_no_more_features_than_allowed_the_most_urgent_first(night: Night) -> None:
    night.house.query("UPDATE feature SET label_id = NULL, label = NULL WHERE index = 5 RETURNING index")
    night.change(max_features=2, run__options__judge_trials=2)
    found = night.fall()
    assert (found.n_stale, found.n_features) == (6, 2)
    assert found.reasons == {"unlabelled": 1, "procedure": 1}
    assert [night.fall().n_stale for _ in range(3)] == [4, 2, 0]


def test_alive_features_are_asked_for_in_the_schedules_own_words(night_of: Callable[..., Night]) -> None:
    night = night_of(features="alive", methods=("lexical",), llm="none", evaluations=("output",))
    found = night.begin()
    assert found.run_id is not None
    assert night.house.run(found.run_id).spec.features == "alive"  # which fire is not known yet
    night.house.work()
    refresh(night.house.pool, night.house.settings)
    assert night.fall().state == "nothing"


def test_a_cancelled_run_ends_its_refresh_and_the_next_night_goes_on(night_of: Callable[..., Night]) -> None:
    night = night_of()
    opened = night.begin()
    assert opened.run_id is not None
    with database.lend(night.house.pool) as connection:
        runs.set_state(connection, 1, opened.run_id, "cancelled")
    refresh(night.house.pool, night.house.settings)
    assert night.slot(opened.id).state == "cancelled"
    assert night.fall().changes == {"new": 6}


def test_what_can_not_be_opened_says_why(night_of: Callable[..., Night]) -> None:
    night = night_of()
    night.change(run__llm="gone")
    failed = night.begin()
    assert failed.state == "failed"
    assert failed.note is not None
    assert "llm='gone'" in failed.note


def test_what_waits_for_the_operator_is_opened_when_it_can_be(night_of: Callable[..., Night], tmp_path: Path) -> None:
    night = night_of()
    profiles = tmp_path / "profiles.toml"
    profiles.write_text("this is no TOML")
    night.house = _with(night.house, llm_profiles=profiles)
    waiting = night.begin()
    assert waiting.state == "due"
    assert waiting.note is not None
    profiles.write_text('[profiles.other]\nmodel = "m"\nbase_url = "http://127.0.0.1:1"\n')
    refresh(night.house.pool, night.house.settings)
    assert night.slot(waiting.id).state == "running"


def test_an_operators_corpus_that_changed_is_noticed(night_of: Callable[..., Night], tmp_path: Path) -> None:
    folder = tmp_path / "corpora"
    folder.mkdir()
    text = (tmp_path / "corpus.jsonl").read_text()
    (folder / "mine.jsonl").write_text(text)
    night = night_of(corpus="operator:mine.jsonl", methods=("lexical",), llm="none", evaluations=("output",))
    night.house = _with(night.house, corpora_dir=folder)
    assert night.fall().state == "done"
    assert night.fall().state == "nothing"
    (folder / "mine.jsonl").write_text(text + text)
    assert night.begin().reasons == {"evidence": 6}


def test_the_size_of_a_corpus_is_that_of_what_it_names(house: House, tmp_path: Path) -> None:
    (tmp_path / "c.jsonl").write_text('{"text": "a"}\n')
    with database.lend(house.pool) as connection:
        uploaded = corpora.n_bytes_of(connection, 1, str(house.corpus_id), corpora_dir=None)
        assert uploaded == corpora.get(connection, 1, house.corpus_id).n_bytes
        assert corpora.n_bytes_of(connection, 1, "operator:c.jsonl", corpora_dir=tmp_path) == 14


def test_a_job_that_is_carried_out_again_asks_for_no_refusal_again(
    night_of: Callable[..., Night], server: LLMServer
) -> None:
    night = night_of(methods=("max_activating",), features="0-1", evaluations=("output",))
    server.mode = "refuse"
    night.fall()
    n_calls = len(server.chats)
    night.house.query("UPDATE job SET state = 'ready' WHERE stage = 'describe' RETURNING id")
    night.house.query("UPDATE run SET state = 'running' RETURNING id")
    night.house.work()
    assert len(server.chats) == n_calls


def test_a_budget_is_that_of_every_run_and_what_it_leaves_waits_for_the_next_slot(
    night_of: Callable[..., Night],
) -> None:
    night = night_of(methods=("max_activating",), budget={"tokens": 1})
    opened = night.begin()
    night.house.work()
    refresh(night.house.pool, night.house.settings)
    assert opened.run_id is not None
    halted = night.house.run(opened.run_id)
    assert (halted.state, halted.spec.budget is not None) == ("paused", True)
    assert night.slot(opened.id).state == "running"  # until the next slot it may be given more
    night.change(run__budget=None)
    second = night.fall()
    first = night.slot(opened.id)
    assert (first.state, first.note) == ("cancelled", halted.note)
    assert night.house.run(opened.run_id).state == "cancelled"
    assert (second.state, second.changes) == ("done", {"new": 6})


def test_a_run_that_a_person_paused_is_left_alone(night_of: Callable[..., Night]) -> None:
    night = night_of()
    opened = night.begin()
    assert opened.run_id is not None
    with database.lend(night.house.pool) as connection:
        runs.set_state(connection, 1, opened.run_id, "paused")
        connection.execute("UPDATE schedule SET since = '2026-01-01' WHERE id = %s", (night.schedule_id,))
        schedules.fire_due(connection)
    refresh(night.house.pool, night.house.settings)
    with database.lend(night.house.pool) as connection:
        (skipped, _) = refreshes.page(connection, night.schedule_id)
    assert skipped.state == "skipped"
    assert night.house.run(opened.run_id).state == "paused"
