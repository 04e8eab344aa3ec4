"""The playground: with a worker that holds a subject, without one, and with results that were not meant for a page."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from schema.records import Dictionary
from schema.store import database, features, trials
from schema.trials import (
    ActivationsSpec,
    Continuations,
    FeatureActivation,
    SteeredContinuation,
    SteeringSpec,
    TextActivations,
    TokenActivations,
)
from tests.llm_server import LLMServer
from tests.pages.browsing import NARROW, Visit
from tests.pages.conftest import Visitor, serious
from tests.service.conftest import Api, SpecMaker, make_key, serving
from tests.service.test_api_trials import working
from tests.tiny import planted_features
from tests.workers.house import House, open_house

PLANTED = planted_features()
WORD = PLANTED[3].triggers[0]
HOSTILE = "<script>alert(1)</script>\u202egnp.exe\u2066"
BUSY_MS = 60_000


@pytest.fixture
def house(tmp_path: Path, database_url: str, redis_url: str) -> Iterator[House]:
    with LLMServer() as server, open_house(tmp_path, database_url, server.base_url) as opened:
        with database.lend(opened.pool) as connection:
            features.set_density(connection, opened.dictionary_id, [3], [0.01], [2.0])
            connection.execute("UPDATE feature SET label = 'soldiers & armies', status = 'ok' WHERE index = 3")
        yield opened._replace(settings=opened.settings.model_copy(update={"redis_url": redis_url}))


def ready(page: Page) -> None:
    """Wait for the page's scripts: only they make the unit's explanation change, or a form ask."""
    page.wait_for_load_state("networkidle")


def read(page: Page, text: str) -> None:
    page.get_by_label("Text at most").fill(text)
    page.get_by_role("button", name="Read it").click()


def plant(api: Api, dictionary: Dictionary, what: TextActivations | Continuations, **asked: object) -> uuid.UUID:
    """Store a trial that is done and return its id."""
    id_ = uuid.uuid4()
    spec: ActivationsSpec | SteeringSpec
    if isinstance(what, TextActivations):
        spec, feature = ActivationsSpec.model_validate({"text": "planted", **asked}), None
    else:
        strengths = [one.strength for one in what.steered]
        spec, feature = SteeringSpec.model_validate({"prompt": "I think", "strengths": strengths, **asked}), 3
    with database.connect(api.settings.database_url) as connection:
        trials.create(connection, 1, id_, dictionary.id, spec, feature=feature, timeout_s=60)
        assert trials.claim(connection) is not None
        assert trials.finish(connection, id_, what)
    return id_


def test_a_text_is_read_a_feature_is_picked_and_steers_a_prompt(house: House, visit: Visitor) -> None:
    with serving(house.settings) as api, working(house):
        window = visit(key=api.key)._replace(url=api.url)
        page = window.page
        page.context.add_cookies([{"name": "glossarium_key", "value": api.key, "url": api.url}])
        window.go("/playground")
        ready(page)
        read(page, f"The {WORD} was near")
        token = page.locator("#tokens .token").nth(1)
        expect(token).to_have_class("token a9", timeout=BUSY_MS)
        token.hover()
        expect(page.locator("#at li")).to_contain_text(["soldiers & armies"])
        page.locator("#tokens .token").first.focus()
        expect(page.locator("#at")).to_contain_text("nothing fires")
        page.keyboard.press("ArrowRight")
        expect(page.locator("#at li")).to_contain_text(["soldiers & armies"])

        page.get_by_role("button", name="Steer feature 3").click()
        expect(page.locator("[data-picked]")).to_contain_text("soldiers & armies")
        page.get_by_label("Unit").select_option("r")
        page.get_by_label("Strengths").fill("3, \u22123")
        page.locator("#prompt").fill("The old")
        page.get_by_label("New tokens").fill("6")
        page.get_by_role("button", name="Go on with and without it").click()
        steered = page.locator(".strength")
        expect(steered).to_have_count(2, timeout=BUSY_MS)
        assert set(steered.first.inner_text().split()) & set(PLANTED[3].promoted)
        assert steered.nth(1).inner_text().startswith("\u22123 r suppressed")
        _is_the_same_for_others(window, api, visit)


def _is_the_same_for_others(window: Visit, api: Api, visit: Visitor) -> None:
    """Expect that the address shows the same without scripts, to a key that may only read."""
    link = window.page.url.removeprefix(api.url)
    assert f"text=The+{WORD}+was+near" in link
    reader = make_key(api.settings.database_url, "read")
    other = visit(key=None, java_script_enabled=False)._replace(url=api.url)
    other.page.context.add_cookies([{"name": "glossarium_key", "value": reader, "url": api.url}])
    other.go(link)
    for place in ("#tokens", "#steered", "#picked"):
        assert other.page.locator(place).inner_text().split() == window.page.locator(place).inner_text().split()
    assert "Your key may only read" in other.page.locator("main").inner_text()
    assert other.page.get_by_role("button", name="Read it").is_disabled()
    assert other.page.locator("noscript").first.inner_text().startswith("To try something here needs JavaScript")


def test_a_link_with_a_text_asks_for_it_and_what_the_subject_refuses_is_said(house: House, visit: Visitor) -> None:
    with serving(house.settings) as api, working(house):
        window = visit(key=api.key)._replace(url=api.url)
        page = window.page
        page.context.add_cookies([{"name": "glossarium_key", "value": api.key, "url": api.url}])
        window.go(f"/playground?dictionary={house.dictionary_id}&text=The+{WORD}")
        expect(page.locator("#f3")).to_be_visible(timeout=BUSY_MS)
        assert "trial=" in page.url
        read(page, "x " * 1200)
        expect(page.locator("#reading [role=alert]")).to_contain_text("at most 511 fit", timeout=BUSY_MS)
        assert "text=" not in page.url  # such a text is not for links, and is kept with its trial
        page.reload()
        assert page.get_by_label("Text at most").input_value() == "x " * 1200
        read(page, "🙂 שלום\r\n\tworld")
        expect(page.locator("#tokens")).to_contain_text("שלום", timeout=BUSY_MS)
        expect(page.locator("#reading")).to_contain_text("Nothing fires on this text")


def test_without_a_worker_it_says_so_and_can_be_given_up(visit: Visitor, api: Api, neurons: Dictionary) -> None:
    window = visit()
    page = window.page
    window.go(f"/playground?dictionary={neurons.id}")
    ready(page)
    read(page, "a boat")
    expect(page.locator("#reading")).to_contain_text("No worker that holds subjects is heard of")
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("#reading [role=alert]")).to_contain_text("It was cancelled")


def test_what_takes_too_long_says_so(visit: Visitor, api: Api, neurons: Dictionary) -> None:
    with database.connect(api.settings.database_url) as connection:
        trials.create(connection, 1, id_ := uuid.uuid4(), neurons.id, ActivationsSpec(text="a"), timeout_s=0.01)
    window = visit()
    window.go(f"/playground?trial={id_}")
    expect(window.page.locator("#reading [role=alert]")).to_contain_text("It took too long: no subject worker took it")


def test_what_is_asked_wrongly_is_said_where_it_was_asked(visit: Visitor, neurons: Dictionary) -> None:
    window = visit()
    page = window.page
    window.go(f"/playground?dictionary={neurons.id}")
    ready(page)
    page.get_by_role("button", name="Read it").click()
    expect(page.locator("#read [role=alert]")).to_have_text("Type a text first: a sentence or two.")
    go, said = page.get_by_role("button", name="Go on with and without it"), page.locator("#steer [role=alert]")
    go.click()
    expect(said).to_contain_text("Pick a feature first")
    page.get_by_label("index, 0 to 15").fill("3")
    page.keyboard.press("Enter")
    expect(page.locator("[data-picked]")).to_have_count(1)
    go.click()
    expect(said).to_contain_text("Type a prompt first")
    page.locator("#prompt").fill("I think")
    for strengths, problem in [
        ("1e9", "strength 1e+09 kl_nats: must be in -10..10, and not 0"),
        ("a lot", '"a" is no number'),
        ("", "Say how strongly"),
        ("1 2 3 4 5 6 7 8 9", "strengths: Tuple should have at most 8 items"),
    ]:
        page.get_by_label("Strengths").fill(strengths)
        page.keyboard.press("Enter")
        expect(said).to_contain_text(problem)
    page.get_by_label("index, 0 to 15").fill("16")
    page.keyboard.press("Enter")
    expect(page.locator("[data-picked='16']")).to_contain_text("no such feature: 0 to 15")
    page.get_by_role("button", name="Leave feature 16 out").click()
    expect(page.locator("[data-picked]")).to_have_count(1)


def test_texts_of_others_stay_texts_and_the_page_can_be_used_by_all(
    visit: Visitor, api: Api, neurons: Dictionary
) -> None:
    with database.connect(api.settings.database_url) as connection:
        connection.execute("UPDATE feature SET label = %s, status = 'ok' WHERE index = 3", (HOSTILE * 2000,))
    fires = (FeatureActivation(index=3, activation=2.5), FeatureActivation(index=4, activation=1.0))
    tokens = tuple(TokenActivations(token=text, features=fires) for text in (HOSTILE, " \n", "漢字", "שלום"))
    long = SteeredContinuation(strength=1, alpha=1, r=1, text=HOSTILE + "w" * 5000)
    beyond = SteeredContinuation(strength=2, alpha=1, r=5, achieved_kl_nats=0.1, reached=False, text=None)
    read_id = plant(api, neurons, TextActivations(tokens=tokens))
    steered_id = plant(api, neurons, Continuations(unsteered=HOSTILE, steered=(long, beyond)), prompt=HOSTILE)
    link = f"/playground?dictionary={neurons.id}&feature=4&trial={read_id}&trial={steered_id}"
    for options in ({"color_scheme": "light"}, {"color_scheme": "dark", "viewport": NARROW}):
        window = visit(**options)
        window.go(link)
        ready(window.page)
        assert window.page.locator("#tokens .token").count() == 4
        assert "gnp.exe" in window.page.locator(".strength").first.inner_text()
        assert "No strength of this feature moves the output that far" in window.page.locator("#steered").inner_text()
        assert window.page.locator("html").evaluate("page => page.scrollWidth <= page.clientWidth")
        assert serious(window.page) == []


def test_what_is_not_kept_or_not_there_or_not_ready_is_said(
    visit: Visitor, api: Api, spec_of: SpecMaker, neurons: Dictionary
) -> None:
    window = visit()
    window.go(f"/playground?dictionary={neurons.id}&trial={uuid.uuid4()}")
    assert "results are kept for a day" in window.page.locator("#gone").inner_text()
    assert window.go(f"/playground?dictionary={uuid.uuid4()}").status == 404
    assert window.go("/playground?feature=many").status == 422
    assert window.page.get_by_role("link", name="The same page without what it asks").is_visible()
    empty = api.client.submit_dictionary(spec_of())
    window.go(f"/playground?dictionary={empty.id}")
    assert "awaiting weights" in window.page.locator("main .problem").first.inner_text()
    assert window.page.get_by_role("button", name="Read it").is_disabled()


def test_an_empty_installation_says_how_to_begin(visit: Visitor) -> None:
    window = visit()
    window.go("/playground")
    assert "glossarium submit" in window.page.locator("main").inner_text()


def test_a_service_that_is_away_is_said_and_waited_for(visit: Visitor, api: Api, neurons: Dictionary) -> None:
    window = visit()
    page = window.page
    window.go(f"/playground?dictionary={neurons.id}")
    ready(page)
    read(page, "a boat")
    expect(page.locator("[data-under-way]")).to_be_visible()
    page.context.set_offline(True)
    expect(page.locator(".said")).to_contain_text("The service does not answer")
    page.context.set_offline(False)
    expect(page.locator(".said")).to_contain_text("The service answers again")
    window.errors.clear()  # the browser itself notes every request that found nobody
