"""What holds for every page, whatever it shows. They are those of the application, so that none is forgotten."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from uuid import UUID, uuid4

import pytest
from fastapi.routing import APIRoute
from playwright.sync_api import Browser, Page

from schema.labels import Description, Label, Provenance, Score, Status
from schema.records import Encoder
from schema.store import database, descriptions, evidence, features, labels, scores, trials
from schema.trials import FeatureActivation, TextActivations, TokenActivations
from service import examples
from service.client import Client
from service.pages import rendering, session, site
from tests.pages.browsing import NARROW, Visit
from tests.pages.conftest import Visitor, serious
from tests.pages.measuring import Load, measure
from tests.pages.screenshots import choose, take
from tests.pages.tour import find_pages
from tests.service.conftest import D_MLP, Api, SpecMaker, make_key
from tests.service.test_api_features import WHOLE
from tests.service.test_tenants import Things, things_of

ROUTES = sorted(
    route.path
    for room in (session, *site._ROOMS)
    for route in room.router.routes
    if isinstance(route, APIRoute) and "GET" in route.methods
)
FEATURE = 3
ASKED = {
    "/dictionaries/{dictionary_id}": ["?status=ok", "?q=nothing+has+this+label"],
    "/search": ["?q=boats"],
    "/compare": ["?run={run_id}&other={run_id}"],
    "/playground": ["?dictionary={dictionary_id}&feature=3", "?trial={trial_id}"],
}
"""Queries that pages are looked at with as well."""
MOST_BYTES, MOST_SHIFT = 150_000, 0.005
MOST_REQUESTS = {"": 12, "/dictionaries/{dictionary_id}": 13}
"""The icon among them, which browsers ask for once. The scatter of a dictionary comes in a request of its own."""
MOST_PAINT_MS = 5_000.0
"""Half a second on a quiet machine, which is measured by tests.pages.measuring; here many others may be at work."""


class Place(NamedTuple):
    """A page, with ids of somebody's and without them."""

    route: str
    path: str


@pytest.fixture
def mine(api: Api, spec_of: SpecMaker) -> Things:
    """Return one of everything, with a feature of which something is known."""
    spec = spec_of(read_site="mlp_hidden.1", encoder=Encoder(kind="neurons"), n_features=D_MLP)
    things = things_of(api.client, api.http, api.settings.database_url, spec)
    assert WHOLE.vocabulary is not None
    dictionary_id = things.ids["dictionary_id"]
    with database.connect(api.settings.database_url) as connection:
        features.set_density(connection, dictionary_id, [FEATURE], [0.1], [3.0])
        known = {FEATURE: WHOLE.vocabulary}
        evidence.put(connection, dictionary_id, "vocabulary", Provenance(recipe="v", document={"k": 2}), known)
        said = Description(feature=FEATURE, method="lexical", status=Status.OK, text="boats", recipe="d")
        description_id = descriptions.put(connection, dictionary_id, said).id
        score = Score.model_validate({**examples.INPUT_SCORE, "feature": FEATURE, "description_id": description_id})
        scores.put(connection, dictionary_id, [score])
        label = Label(
            feature=FEATURE,
            text="boats",
            status=Status.OK,
            method="lexical",
            description_id=description_id,
            input=score,
        )
        labels.publish(connection, dictionary_id, None, label, "l")
        fires = (FeatureActivation(index=FEATURE, activation=2.0),)
        assert trials.claim(connection) is not None
        read = TextActivations(tokens=(TokenActivations(token="a", features=fires),))
        assert trials.finish(connection, things.ids["trial_id"], read)
    return things


@pytest.fixture
def others(api: Api, spec_of: SpecMaker) -> Iterator[Things]:
    """Yield one of everything of another tenant."""
    key = make_key(api.settings.database_url, tenant="others")
    spec = spec_of(read_site="mlp_hidden.1", encoder=Encoder(kind="neurons"), n_features=D_MLP, name="theirs")
    with Client(api.url, key=key) as client, api.with_key(key) as http:
        yield things_of(client, http, api.settings.database_url, spec)


def filled(template: str, ids: dict[str, UUID]) -> str:
    """Return a path or query with ids in it. `index` is that of the feature of which something is known."""
    return template.format(**ids, index=FEATURE)


def places(ids: dict[str, UUID]) -> list[Place]:
    """Return every page, with and without what may be asked of it."""
    return [Place(route, filled(route + query, ids)) for route in ROUTES for query in ("", *ASKED.get(route, []))]


def whole(api: Api, ids: dict[str, UUID]) -> list[Place]:
    """Return those that are pages, and not parts of pages that come later."""
    return [one for one in places(ids) if "<main" in api.http.get(one.path, headers={"Accept": "text/html"}).text]


def settle(window: Visit) -> Page:
    window.page.wait_for_load_state("load")
    window.page.wait_for_timeout(150)
    return window.page


@pytest.mark.timeout(600)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_that_keeps_somebody_out(visit: Visitor, api: Api, mine: Things, scheme: str) -> None:
    window = visit(color_scheme=scheme)
    found = []
    for one in whole(api, mine.ids):
        window.go(one.path)
        found += [f"{one.route}: {problem}" for problem in serious(settle(window))]
    assert "\n".join(found) == ""


@pytest.mark.timeout(600)
def test_no_page_is_wider_than_a_phone(visit: Visitor, api: Api, mine: Things) -> None:
    window = visit(viewport=NARROW)
    widths = {}
    for one in whole(api, mine.ids):
        window.go(one.path)
        widths[one.path] = settle(window).evaluate("document.documentElement.scrollWidth")
    assert {path: width for path, width in widths.items() if width > NARROW["width"]} == {}


@pytest.mark.timeout(600)
def test_every_page_is_read_without_scripts(visit: Visitor, api: Api, mine: Things) -> None:
    window = visit(java_script_enabled=False)
    for one in whole(api, mine.ids):
        answer = window.go(one.path)
        assert answer.status == 200, one.path
        assert window.page.locator("h1").count() == 1, one.path
        assert window.page.locator("main").inner_text().strip(), one.path


@pytest.mark.timeout(600)
def test_every_page_is_light_and_lies_still(visit: Visitor, api: Api, mine: Things) -> None:
    found = []
    for one in whole(api, mine.ids):
        window = visit()
        load = measure(window.page, lambda window=window, path=one.path: window.go(path))
        window.page.close()
        most = Load(MOST_REQUESTS.get(one.route, MOST_REQUESTS[""]), MOST_BYTES, MOST_PAINT_MS, MOST_SHIFT)
        if any(value > limit for value, limit in zip(load, most, strict=True)):
            found.append(f"{one.path}: {load}")
    assert "\n".join(found) == ""


@pytest.mark.timeout(600)
def test_every_page_is_reached_by_keyboard_from_its_first_link(visit: Visitor, api: Api, mine: Things) -> None:
    window = visit()
    for one in whole(api, mine.ids):
        if one.route == "/sign-in":
            continue  # where the field for the key has the keyboard from the start
        window.go(one.path)
        page = settle(window)
        page.keyboard.press("Tab")
        skip = page.locator(":focus")
        assert skip.inner_text() == "Skip to the content", one.path
        page.keyboard.press("Enter")
        assert page.locator(":focus").get_attribute("id") == "main", one.path
        first = page.locator("main :is(a[href], button:enabled, input:not([type=hidden]), select, textarea):visible")
        if first.count():
            page.keyboard.press("Tab")
            assert page.locator("main :focus").count() == 1, one.path


def test_every_answer_has_the_policy_of_pages_and_nothing_inline(api: Api, mine: Things) -> None:
    for one in places(mine.ids):
        answer = api.http.get(one.path, headers={"Accept": "text/html"})
        assert answer.status_code == 200, one.path
        assert answer.headers["content-security-policy"] == rendering.POLICY, one.path
        assert not re.search(r"<script(?! [^>]*src=)|<style|\sstyle=|\son[a-z]+=", answer.text), one.path


def test_what_is_not_there_or_of_others_is_a_page_that_helps(api: Api, mine: Things, others: Things) -> None:
    nobodys = {name: uuid4() for name in mine.ids}
    for ids in (nobodys, others.ids):
        for route in (route for route in ROUTES if "_id}" in route):
            answer = api.http.get(filled(route, ids), headers={"Accept": "text/html"})
            assert answer.status_code == 404, route
            assert "It may have been deleted, or belong to others" in answer.text, route
    for _, path in places(mine.ids):
        assert str(others.ids["dictionary_id"]) not in api.http.get(path, headers={"Accept": "text/html"}).text, path


def test_a_browser_without_a_key_is_asked_for_one(api: Api, mine: Things) -> None:
    with api.with_key(None) as http:
        for one in places(mine.ids):
            answer = http.get(one.path, headers={"Accept": "text/html"})
            is_open = one.route == "/sign-in"
            assert answer.status_code == (200 if is_open else 401), one.path
            assert '<label for="key">API key</label>' in answer.text, one.path


def test_a_key_that_may_only_read_sees_every_page(api: Api, mine: Things) -> None:
    with api.with_key(make_key(api.settings.database_url, "read")) as http:
        for one in places(mine.ids):
            assert http.get(one.path, headers={"Accept": "text/html"}).status_code == 200, one.path


def test_a_tour_finds_what_is_there_and_pictures_are_taken_of_it(
    browser: Browser, api: Api, mine: Things, tmp_path: Path
) -> None:
    pages = find_pages(api.http, patience_s=0)
    assert f"feature={FEATURE}" in pages["playground"]
    (out := tmp_path / "pictures").mkdir()
    taken = take(browser, api.url, api.key, {"playground": pages["playground"]}, out)
    assert sorted(out.iterdir()) == sorted(taken)
    assert len(taken) == 4
    choose(browser, api.url, api.key, pages["playground"], out / "small")
    assert 1_000 < (out / "small.webp").stat().st_size < 200_000
