"""Labels over HTTP: looked up in bulk, corrected by people, compared between runs; and what they cost."""

import uuid
from collections.abc import Callable

import httpx
import pytest

from schema.edits import LabelEdit
from schema.errors import Conflict, InvalidInput, NotFound
from schema.evidence import TokenList, VocabularyProjection
from schema.labels import FeatureSummary, Label, Provenance, Status
from schema.lookups import MOST, BriefLabel
from schema.records import Dictionary, RunSpec
from schema.store import calls, database, evidence, labels, run_features
from schema.store.calls import Call
from schema.store.run_features import RunFeature
from tests.service.conftest import D_MLP, Api, SpecMaker, make_key

CALL = Call(3, "judge", "p", "m", "ok", 1, 100, 40, 20, 0.25, 1.0, False)


def label(feature: int, text: str | None) -> Label:
    status = Status.OK if text else Status.UNPARSED
    return Label(feature=feature, text=text, status=status, method="lexical", description_id=None)


@pytest.fixture
def publish(api: Api, neurons: Dictionary) -> Callable[..., int]:
    """Return what publishes a label of a feature, of a run if one is given, and tells its id."""

    def made(feature: int, text: str | None, run_id: uuid.UUID | None = None, recipe: str = "r") -> int:
        with database.connect(api.settings.database_url) as connection:
            return labels.publish(connection, neurons.id, run_id, label(feature, text), recipe)

    return made


# ------------------------------------------------------------------------------------------------------------- in bulk


def test_labels_come_in_the_order_asked_for_with_gaps_and_twice(
    api: Api, neurons: Dictionary, publish: Callable[..., int], spec_of: SpecMaker
) -> None:
    other = api.client.submit_dictionary(spec_of(name="other"))
    first, failed = publish(3, "boats"), publish(5, None)
    asked = [(neurons.id, 5), (other.id, 3), (neurons.id, 3), (neurons.id, 0), (neurons.id, 3)]
    found = list(api.client.find_labels(asked))
    assert [one and (one.id, one.text, one.status) for one in found] == [
        (failed, None, "unparsed"),
        None,
        (first, "boats", "ok"),
        None,
        (first, "boats", "ok"),
    ]
    assert found[2] is not None
    assert (found[2].author, found[2].method) == ("glossarium", "lexical")


def test_a_label_by_a_person_says_who(api: Api, neurons: Dictionary, publish: Callable[..., int]) -> None:
    text = 'ships \\ "ferries" & 🚢'
    mine = api.client.edit_label(neurons.id, 3, LabelEdit(text=text, author="ada", seen=publish(3, "boats")))
    publish(4, "harbours")
    asked = [(neurons.id, 4), (neurons.id, 3)]
    assert [one and (one.text, one.author) for one in api.client.find_labels(asked)] == [
        ("harbours", "glossarium"),
        (text, "ada"),
    ]
    api.client.withdraw_label(neurons.id, 3, mine.id or 0)
    assert [one and one.author for one in api.client.find_labels(asked)] == ["glossarium", "glossarium"]


def test_what_bulk_says_of_a_label_is_what_the_feature_says(
    api: Api, neurons: Dictionary, publish: Callable[..., int]
) -> None:
    publish(3, "boats")
    with database.connect(api.settings.database_url) as connection:
        connection.execute("UPDATE feature SET input_value = 0.92, input_lift = -0.1, output_value = 1e-7")
    (brief,) = api.client.find_labels([(neurons.id, 3)])
    summary = api.client.feature(neurons.id, 3).summary
    assert brief is not None
    shared = BriefLabel.model_fields.keys() & FeatureSummary.model_fields.keys()
    assert {"status", "method", "input_value", "output_lift"} <= shared
    assert brief.model_dump(include=shared) == summary.model_dump(include=shared)


def test_ten_thousand_labels_come_in_one_call_and_the_client_cuts_more(api: Api, neurons: Dictionary) -> None:
    places = [(str(neurons.id), index % D_MLP) for index in range(MOST)]
    response = api.http.post("/v1/labels/bulk", json={"features": places})
    assert response.status_code == 200
    assert len(response.json()["items"]) == MOST
    too_many = api.http.post("/v1/labels/bulk", json={"features": [*places, places[0]]})
    assert "at most 10000 items" in api.problem(too_many, 422, "InvalidInput")
    assert sum(1 for _ in api.client.find_labels((neurons.id, index % D_MLP) for index in range(MOST + 1))) == MOST + 1


def test_a_feature_that_is_not_there_is_named(api: Api, neurons: Dictionary) -> None:
    nowhere = uuid.uuid4()
    with pytest.raises(NotFound, match=f"no feature 16 of a dictionary {neurons.id}"):
        list(api.client.find_labels([(neurons.id, 0), (neurons.id, D_MLP), (nowhere, 0)]))
    with pytest.raises(NotFound, match=f"no feature 0 of a dictionary {nowhere}"):
        list(api.client.find_labels([(nowhere, 0)]))


def test_another_tenants_features_are_not_there(api: Api, neurons: Dictionary, publish: Callable[..., int]) -> None:
    publish(3, "boats")
    with database.connect(api.settings.database_url) as connection:
        connection.execute("INSERT INTO tenant (id, name) VALUES (2, 'other')")
        connection.execute("UPDATE dictionary SET tenant_id = 2")
    with pytest.raises(NotFound, match="no feature 3"):
        list(api.client.find_labels([(neurons.id, 3)]))
    edit = LabelEdit(text="t", author="ada", seen=None)
    for asked in (
        lambda: api.client.edit_label(neurons.id, 3, edit),
        lambda: api.client.withdraw_label(neurons.id, 3, 1),
        lambda: api.client.similar(neurons.id, 3),
        lambda: api.client.label_history(neurons.id, 3),
        lambda: list(api.client.usage(dictionary_id=neurons.id)),
    ):
        with pytest.raises(NotFound, match="no dictionary"):
            asked()


@pytest.mark.parametrize(
    "places",
    [[], [["x", 1]], [[str(uuid.uuid4()), -1]], [[str(uuid.uuid4())]], [[str(uuid.uuid4()), 2**31]], "all", None],
)
def test_what_is_no_list_of_features_is_refused(api: Api, places: object) -> None:
    api.problem(api.http.post("/v1/labels/bulk", json={"features": places}), 422, "InvalidInput")


# ----------------------------------------------------------------------------------------------------------- by people


def test_a_persons_label_stands_until_it_is_withdrawn(
    api: Api, neurons: Dictionary, publish: Callable[..., int]
) -> None:
    first = publish(3, "boats")
    edit = LabelEdit(text="ships & 🚢‍🌊", author="ada", note="read forty contexts", seen=first)
    mine = api.client.edit_label(neurons.id, 3, edit)
    assert mine.id is not None
    assert (mine.text, mine.author, mine.note, mine.method) == (edit.text, "ada", edit.note, "imported")
    publish(3, "harbours", recipe="later")
    feature = api.client.feature(neurons.id, 3)
    assert (feature.label, feature.summary.label) == (mine, edit.text)
    assert [described.text for described in feature.descriptions] == [edit.text]
    assert api.client.edit_label(neurons.id, 3, edit) == mine
    api.client.withdraw_label(neurons.id, 3, mine.id)
    assert api.client.feature(neurons.id, 3).summary.label == "harbours"
    history = api.client.label_history(neurons.id, 3)
    assert [(one.text, one.author) for one in history] == [
        ("harbours", "glossarium"),
        (edit.text, "ada"),
        ("boats", "glossarium"),
    ]
    with pytest.raises(NotFound, match="feature 3 has no label by a person"):
        api.client.withdraw_label(neurons.id, 3, mine.id)


def test_of_two_people_who_saw_the_same_the_second_is_told(
    api: Api, neurons: Dictionary, publish: Callable[..., int]
) -> None:
    first = publish(3, "boats")
    mine = api.client.edit_label(neurons.id, 3, LabelEdit(text="ships", author="ada", seen=first))
    with pytest.raises(Conflict, match=rf"feature 3 has label {mine.id} by ada by now, and not .* \({first}\)"):
        api.client.edit_label(neurons.id, 3, LabelEdit(text="ferries", author="ben", seen=first))
    with pytest.raises(Conflict, match="by now"):
        api.client.withdraw_label(neurons.id, 3, first)
    assert api.client.feature(neurons.id, 3).summary.label == "ships"


HOSTILE = [
    ("a\0b", "holds the control character U+0000"),
    ("\u202egnihton", "holds the control character U+202E"),
    ("a\x1b[2J", "holds the control character U+001B"),
    ("x" * 100_000, "at most 2000 characters"),
    (" \u00a0 ", "is blank"),
    ("", "at least 1 character"),
]


@pytest.mark.parametrize(("text", "message"), HOSTILE, ids=["nul", "bidi", "escape", "100 kB", "blank", "empty"])
def test_hostile_text_is_refused_and_nothing_is_stored(api: Api, neurons: Dictionary, text: str, message: str) -> None:
    url = f"/v1/dictionaries/{neurons.id}/features/3/label"
    whole = {"text": "t", "author": "ada", "note": "n", "seen": None}
    for field in ("text", "author", "note"):
        response = api.http.put(url, json={**whole, field: text})
        assert message.replace("2000", "200" if field == "author" else "2000") in api.problem(
            response, 422, "InvalidInput"
        )
    assert api.client.label_history(neurons.id, 3) == ()


@pytest.mark.parametrize(
    "text", ["🦀", "مرحبا", "e\u0301", "\u200dzero width", "';DROP TABLE label--", "<b>&amp;</b>", "%s %(x)s"]
)
def test_odd_text_is_kept_as_it_is(api: Api, neurons: Dictionary, text: str) -> None:
    api.client.edit_label(neurons.id, 3, LabelEdit(text=text, author=text, note=text, seen=None))
    (kept,) = api.client.label_history(neurons.id, 3)
    assert (kept.text, kept.author, kept.note) == (text, text, text)
    (found,) = api.client.find_labels([(neurons.id, 3)])
    assert found is not None
    assert (found.text, found.author) == (text, text)


def test_who_gives_no_author_is_the_name_of_the_key(api: Api, neurons: Dictionary) -> None:
    def edit(name: str, feature: int) -> httpx.Response:
        with api.with_key(make_key(api.settings.database_url, "submit", name=name)) as http:
            return http.put(
                f"/v1/dictionaries/{neurons.id}/features/{feature}/label", json={"text": "boats", "seen": None}
            )

    assert Label.model_validate_json(edit("ada's notebook", 3).content).author == "ada's notebook"
    (kept,) = api.client.label_history(neurons.id, 3)
    assert kept.author == "ada's notebook"
    for name, why in (("glossarium", "is glossarium, which only runs are"), ("a\u202eb", "U+202E")):
        said = api.problem(edit(name, 4), 422, "InvalidInput")
        assert f"the name of your API key, {name!r}, can't be an author" in said
        assert why in said
    assert api.client.label_history(neurons.id, 4) == ()


def test_nobody_edits_as_a_run_or_without_saying_what_was_seen(api: Api, neurons: Dictionary) -> None:
    url = f"/v1/dictionaries/{neurons.id}/features/3/label"
    for author in ("glossarium", " Glossarium "):
        response = api.http.put(url, json={"text": "t", "author": author, "seen": None})
        assert "is glossarium, which only runs are" in api.problem(response, 422, "InvalidInput")
    assert "seen" in api.problem(api.http.put(url, json={"text": "t", "author": "ada"}), 422, "InvalidInput")
    assert "seen" in api.problem(api.http.delete(url), 422, "InvalidInput")
    beyond = api.http.put(
        f"/v1/dictionaries/{neurons.id}/features/16/label", json={"text": "t", "author": "a", "seen": 1}
    )
    assert "must be 0..15" in api.problem(beyond, 404, "NotFound")


# ------------------------------------------------------------------------------------------------------------- similar


def test_similar_features_are_the_nearest_with_their_labels(
    api: Api, neurons: Dictionary, publish: Callable[..., int]
) -> None:
    publish(5, "rivers")
    nothing = TokenList(ids=(), tokens=(), values=())
    projection = VocabularyProjection(
        promoted=nothing, suppressed=nothing, neighbours=(5, 9, 1), cosines=(0.75, 0.5, -0.25), centred=True
    )
    with database.connect(api.settings.database_url) as connection:
        evidence.put(connection, neurons.id, "vocabulary", Provenance(recipe="v", document={}), {3: projection})
    found = api.client.similar(neurons.id, 3)
    assert [(one.feature.index, one.cosine, one.feature.label) for one in found.items] == [
        (5, 0.75, "rivers"),
        (9, 0.5, None),
        (1, -0.25, None),
    ]
    assert found.reason is None
    assert [one.feature.index for one in api.client.similar(neurons.id, 3, limit=1).items] == [5]
    unknown = api.client.similar(neurons.id, 4)
    assert unknown.items == ()
    assert "label it with `vocabulary`" in str(unknown.reason)


# ---------------------------------------------------------------------------------------------------------------- runs


def run_of(api: Api, dictionary: Dictionary, *selected: int) -> uuid.UUID:
    """Return a run that selected some features."""
    run = api.client.submit_run(RunSpec(dictionary_id=dictionary.id, features=",".join(map(str, selected))))
    with database.connect(api.settings.database_url) as connection:
        members = [RunFeature(place, feature, True, False) for place, feature in enumerate(selected)]
        run_features.put(connection, run.id, members)
    return run.id


def test_two_runs_are_compared_page_by_page(api: Api, neurons: Dictionary, publish: Callable[..., int]) -> None:
    old, new = (run_of(api, neurons, 1, 2, 3) for _ in range(2))
    for feature, (before, after) in {1: ("a", "b"), 2: ("c", None), 3: ("d", "d")}.items():
        publish(feature, before, old, "old")
        publish(feature, after, new, "new")
    found = list(api.client.run_diff(new, old))
    assert [(one.feature, one.change) for one in found] == [(1, "changed"), (2, "lost")]
    assert found[0].before is not None
    assert found[0].after is not None
    assert (found[0].before.label, found[0].after.label) == ("a", "b")
    assert [one.feature for one in api.client.run_diff(new, old, ["same"])] == [3]
    url = f"/v1/runs/{new}/diff"
    page = api.http.get(url, params={"against": str(old), "limit": 1}).json()
    following = api.http.get(url, params={"against": str(old), "cursor": page["next_cursor"]}).json()
    assert [item["feature"] for item in page["items"] + following["items"]] == [1, 2]
    other = api.http.get(f"/v1/runs/{old}/diff", params={"against": str(new), "cursor": page["next_cursor"]})
    assert "belongs to another query" in api.problem(other, 422, "InvalidInput")


def test_runs_that_can_not_be_compared_are_refused(api: Api, neurons: Dictionary, spec_of: SpecMaker) -> None:
    spec = spec_of(name="other", read_site="mlp_hidden.2", encoder=neurons.spec.encoder, n_features=D_MLP)
    other = api.client.submit_dictionary(spec)
    ours, theirs = run_of(api, neurons, 1), run_of(api, other, 1)
    with pytest.raises(InvalidInput, match=f"run {ours} is of dictionary {neurons.id} and run {theirs} of {other.id}"):
        list(api.client.run_diff(ours, theirs))
    for asked in ((ours, uuid.uuid4()), (uuid.uuid4(), ours)):
        with pytest.raises(NotFound, match="no run"):
            list(api.client.run_diff(*asked))


# --------------------------------------------------------------------------------------------------------------- usage


def test_usage_comes_in_pages_with_a_total(api: Api, neurons: Dictionary) -> None:
    run_id = run_of(api, neurons, 1)
    with database.connect(api.settings.database_url) as connection:
        for call in (CALL, CALL._replace(purpose="write", dollars=None), CALL):
            calls.put(connection, 1, run_id, call)
    page = api.http.get("/v1/usage", params={"limit": 1}).json()
    assert (page["total"]["calls"], page["total"]["dollars"]) == (3, None)
    assert [(row.purpose, row.calls, row.dollars) for row in api.client.usage(limit=1)] == [
        ("judge", 2, 0.5),
        ("write", 1, None),
    ]
    assert api.client.usage_total(run_id=run_id).prompt_tokens == 300
    assert api.client.usage_total(dictionary_id=neurons.id).calls == 3
    assert api.client.usage_total(since="2100-01-01T00:00:00Z").calls == 0
    with pytest.raises(NotFound, match="no run"):
        api.client.usage_total(run_id=uuid.uuid4())
    with pytest.raises(InvalidInput, match="timezone"):
        api.client.usage_total(since="2026-01-01T00:00:00")
