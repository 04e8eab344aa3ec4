"""Features and labels over HTTP: pages, filters, and one feature with everything."""

import base64
import json
import uuid
from pathlib import Path

import pytest
from rich.panel import Panel

from prompts import Ask, load_prompt, prompt_ids
from prompts.describing import messages_for
from prompts.estimating import TOKENS_OF_A_REPLY
from prompts.evidence import Evidence
from schema.errors import InvalidInput, NotFound
from schema.evidence import VocabularyProjection
from schema.labels import Description, Feature, Label, Provenance, Score, Status
from schema.records import Dictionary, RunOptions, RunSpec
from schema.settings import Settings
from schema.store import database, descriptions, evidence, features, labels, scores
from schema.wire import FeaturePrompt
from service import examples, feature_examples, render
from tests.service.conftest import D_MLP, Api, serving

WHOLE = Feature.model_validate(feature_examples.FEATURE)


@pytest.fixture
def known(api: Api, neurons: Dictionary) -> Dictionary:
    """Return a dictionary where much is known of feature 3, and densities of all."""
    vocabulary = WHOLE.vocabulary
    assert vocabulary is not None
    with database.connect(api.settings.database_url) as connection:
        indices = range(D_MLP)
        features.set_density(connection, neurons.id, indices, [i / 32 for i in indices], [float(i) for i in indices])
        evidence.put(connection, neurons.id, "vocabulary", Provenance(recipe="v", document={"k": 2}), {3: vocabulary})
        description = descriptions.put(
            connection, neurons.id, Description(feature=3, method="lexical", status=Status.OK, text="boats", recipe="d")
        )
        score = Score.model_validate({**examples.INPUT_SCORE, "feature": 3, "description_id": description.id})
        scores.put(connection, neurons.id, [score])
        label = Label(
            feature=3, text="boats", status=Status.OK, method="lexical", description_id=description.id, input=score
        )
        labels.publish(connection, neurons.id, None, label, "l")
        labels.publish(
            connection, neurons.id, None, label.model_copy(update={"feature": 5, "text": "Rivers and boats"}), "l"
        )
    return neurons


def test_a_feature_comes_with_everything_that_is_known_of_it(api: Api, known: Dictionary) -> None:
    feature = api.client.feature(known.id, 3)
    assert (feature.summary.label, feature.summary.density, feature.summary.max_activation) == ("boats", 3 / 32, 3.0)
    assert isinstance(feature.vocabulary, VocabularyProjection)
    assert feature.vocabulary == WHOLE.vocabulary
    assert feature.exemplars is None
    assert feature.provenance == {"vocabulary": Provenance(recipe="v", document={"k": 2})}
    (description,) = feature.descriptions
    assert (description.text, description.method) == ("boats", "lexical")
    assert [score.description_id for score in feature.scores] == [description.id]
    assert feature.label is not None
    assert feature.label.input is not None
    assert feature.label.input.lift == 0.41


def test_a_feature_of_which_nothing_is_known_is_unlabelled(api: Api, known: Dictionary) -> None:
    feature = api.client.feature(known.id, 0)
    assert (feature.summary.status, feature.label, feature.descriptions) == ("unlabelled", None, ())


PATHS = ["", "/labels"]


def test_an_index_out_of_range_is_not_found_and_says_the_limit(api: Api, known: Dictionary) -> None:
    for path in PATHS:
        response = api.http.get(f"/v1/dictionaries/{known.id}/features/16{path}")
        assert api.problem(response, 404, "NotFound") == f"feature 16 of dictionary {known.id}; must be 0..15"
        response = api.http.get(f"/v1/dictionaries/{known.id}/features/-1{path}")
        assert "greater than or equal to 0" in api.problem(response, 422, "InvalidInput")
        response = api.http.get(f"/v1/dictionaries/{known.id}/features/99999999999999999999{path}")
        assert "less than or equal to 2147483647" in api.problem(response, 422, "InvalidInput")


def test_pages_follow_each_other_in_every_direction(api: Api, known: Dictionary) -> None:
    for sort, expected in (("-density", list(range(D_MLP))[::-1]), ("density", list(range(D_MLP)))):
        found = api.client.features(known.id, sort=sort, limit=5)
        assert [row.index for row in found] == expected
    lifted = [row.index for row in api.client.features(known.id, sort="-input_lift", limit=1)]
    assert lifted == [5, 3, 0, 1, 2, 4, *range(6, D_MLP)]


def test_the_last_page_has_no_cursor(api: Api, known: Dictionary) -> None:
    url = f"/v1/dictionaries/{known.id}/features"
    assert api.http.get(url, params={"limit": D_MLP}).json()["next_cursor"] is None
    assert api.http.get(url, params={"limit": D_MLP - 1}).json()["next_cursor"] is not None


def test_filters_are_passed_on(api: Api, known: Dictionary) -> None:
    def found(**filters: object) -> list[int]:
        return [row.index for row in api.client.features(known.id, limit=1, **filters)]

    assert found(status="ok") == [3, 5]
    assert found(status=["ok", "dead"], method=["lexical"]) == [3, 5]
    assert found(status="refused") == []
    assert found(min_input_lift=0.4) == [3, 5]
    assert found(min_input_lift=0.5) == []
    assert found(min_density=0.4) == [13, 14, 15]
    assert found(input_success=True, q="river") == [5]
    assert found(input_success=False) == []


def test_only_the_features_of_a_run_are_listed_for_it(api: Api, known: Dictionary) -> None:
    run = api.client.submit_run(RunSpec(dictionary_id=known.id, features="5,7"))
    with database.connect(api.settings.database_url) as connection:
        for position, (feature, selected) in enumerate([(3, False), (5, True), (7, True)]):
            connection.execute(
                "INSERT INTO run_feature (run_id, position, feature, selected, pooled) VALUES (%s, %s, %s, %s, true)",
                (run.id, position, feature, selected),
            )
    assert [row.index for row in api.client.features(known.id, run_id=run.id)] == [5, 7]
    assert [label.feature for label in api.client.labels(known.id, run.id)] == [5]
    assert [item["feature"] for item in api.http.get(f"/v1/runs/{run.id}/labels").json()["items"]] == [5]
    counts = [(row.method, row.status, row.n) for row in api.client.run(run.id).counts]
    assert counts == [(None, "unlabelled", 2)]  # what is there is of others
    with pytest.raises(NotFound, match="no run"):
        list(api.client.features(known.id, run_id=uuid.uuid4()))


WRONG_QUERIES = [
    ({"sort": "beauty"}, "query.sort: Input should be 'index', '-index', 'density'"),
    ({"limit": 0}, 'query.limit: Input should be greater than or equal to 1, and not "0"'),
    ({"limit": 1001}, "query.limit: Input should be less than or equal to 1000"),
    ({"status": "good"}, "query.status.0"),
    ({"min_inputlift": 0.1}, "query.min_inputlift: Extra inputs are not permitted"),
    ({"min_density": "a lot"}, "query.min_density: Input should be a valid number"),
    ({"q": "a\0"}, "the database can't hold this value"),
    ({"cursor": "xyz"}, "cursor='xyz' is not a cursor"),
]


def test_wrong_queries_are_refused_with_what_is_wrong(api: Api, known: Dictionary) -> None:
    for parameters, message in WRONG_QUERIES:
        response = api.http.get(
            f"/v1/dictionaries/{known.id}/features", params={k: str(v) for k, v in parameters.items()}
        )
        assert message in api.problem(response, 422, "InvalidInput")


def test_a_cursor_is_good_for_its_own_query_only(api: Api, known: Dictionary) -> None:
    url = f"/v1/dictionaries/{known.id}/features"
    cursor = api.http.get(url, params={"limit": 2, "sort": "-density"}).json()["next_cursor"]
    assert api.http.get(url, params={"limit": 9, "sort": "-density", "cursor": cursor}).status_code == 200
    for other in ({"sort": "density"}, {"sort": "-density", "status": "ok"}, {}):
        response = api.http.get(url, params={**other, "cursor": cursor})
        detail = api.problem(response, 422, "InvalidInput")
        assert "belongs to another query; give `next_cursor` as it came, with the same query, or start again" in detail


def test_a_cursor_with_a_position_of_another_kind_is_refused(api: Api, known: Dictionary) -> None:
    url = f"/v1/dictionaries/{known.id}/features"
    cursor = api.http.get(url, params={"limit": 2}).json()["next_cursor"]
    content = json.loads(base64.urlsafe_b64decode(cursor))
    for position in (["x", 1], [0.5], "x", None, {"value": 1}):
        forged = base64.urlsafe_b64encode(json.dumps({**content, "p": position}).encode()).decode()
        response = api.http.get(url, params={"cursor": forged})
        assert "is not a cursor" in api.problem(response, 422, "InvalidInput")


def test_labels_come_in_pages_with_their_history(api: Api, known: Dictionary) -> None:
    assert [(label.feature, label.text) for label in api.client.labels(known.id)] == [
        (3, "boats"),
        (5, "Rivers and boats"),
    ]
    with database.connect(api.settings.database_url) as connection:
        newer = Label(feature=3, text=None, status=Status.REFUSED, method=None, description_id=None)
        labels.publish(connection, known.id, None, newer, "m")
    history = api.http.get(f"/v1/dictionaries/{known.id}/features/3/labels").json()
    assert [label["text"] for label in history] == [None, "boats"]
    assert api.client.feature(known.id, 3).summary.status == "refused"
    page = api.http.get(f"/v1/dictionaries/{known.id}/labels", params={"limit": 1}).json()
    assert [item["feature"] for item in page["items"]] == [3]
    assert page["next_cursor"] is not None


def test_client_errors_carry_the_message_of_the_service(api: Api, known: Dictionary) -> None:
    with pytest.raises(InvalidInput, match=r"query\.sort: Input should be"):
        list(api.client.features(known.id, sort="beauty"))


# ------------------------------------------------------------------------------------------------------------- prompts


def test_prompt_files_are_listed_with_the_checksums_that_descriptions_carry(api: Api) -> None:
    listed = {file.id: file for file in api.client.prompt_files()}
    assert listed["describe/feature.v1"].sha256 == load_prompt("describe/feature.v1").sha256
    assert listed["describe/feature.v1"].n_shared_characters > 500
    assert sorted(listed) == prompt_ids()


def test_a_features_prompt_is_what_a_describer_is_sent(api: Api, known: Dictionary) -> None:
    (asked,) = api.client.prompts(known.id, 3, methods=["vocabulary"])
    secret = api.settings.secret.get_secret_value().encode()
    sent = messages_for("vocabulary", Evidence(vocabulary=WHOLE.vocabulary), RunOptions(), secret)
    assert isinstance(sent, Ask)
    assert [turn.model_dump() for turn in asked.messages] == list(sent.messages)
    assert asked.prompt_id == "describe/feature.v1"
    assert asked.n_tokens is not None
    assert asked.n_tokens > 100


def title_of(asked: FeaturePrompt) -> str:
    panel = render.feature_prompt(asked)
    assert isinstance(panel, Panel)
    return str(panel.title)


def test_a_prompt_comes_with_its_price_where_that_is_known(
    settings: Settings, known: Dictionary, tmp_path: Path
) -> None:
    path = tmp_path / "profiles.toml"
    prices = "prices = {prompt = 3.0, completion = 15.0}"
    path.write_text(f'[profiles.priced]\nbase_url = "http://h/v1"\nmodel = "m"\n{prices}\n')
    with serving(settings.model_copy(update={"llm_profiles": path})) as api:
        run = api.client.submit_run(RunSpec(dictionary_id=known.id, llm="priced"))
        (asked,) = api.client.prompts(known.id, 3, methods=["vocabulary"], run_id=run.id)
        (unknown,) = api.client.prompts(known.id, 3, methods=["vocabulary"])
    assert asked.n_tokens is not None
    assert asked.dollars == pytest.approx((3 * asked.n_tokens + 15 * TOKENS_OF_A_REPLY) / 1e6)
    assert "about $" in title_of(asked)
    assert unknown.dollars is None
    assert "price not known" in title_of(unknown)


def test_a_method_without_evidence_says_why_it_has_no_prompt(api: Api, known: Dictionary) -> None:
    asked = {one.method: one for one in api.client.prompts(known.id, 3)}
    assert (asked["max_activating"].status, asked["max_activating"].messages) == (Status.NOT_APPLICABLE, ())
    assert asked["combined"].status == Status.OK
    assert "lexical" not in asked
