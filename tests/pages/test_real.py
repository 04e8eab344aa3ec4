"""Pages over the whole stack: its servers, its workers and its own describer, with a run that goes on meanwhile."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

import psutil
import pytest
from playwright.sync_api import Browser, expect

from schema.presets import preset
from schema.records import DictionarySpec, Encoder, RunSpec
from schema.subjects import BUNDLED
from service.client import Client
from service.stack import Stack
from tests.pages.browsing import Visit, visiting

SMALL = preset("small")["options"]
TERMS = {
    "features": "194,513",
    "methods": ("lexical", "max_activating"),
    "evaluations": ("input", "output"),
    "options": {**SMALL, "pool_size": 3, "n_steered_tokens": 8, "embedding_pairs": 4},
}
"""Of the run: as little as still goes through every stage."""
PATIENCE_MS = 400_000
NEURONS = DictionarySpec(
    name="neurons", subject=BUNDLED, read_site="mlp_hidden.15", encoder=Encoder(kind="neurons"), n_features=1536
)
pytestmark = pytest.mark.timeout(900)


class Place(NamedTuple):
    """A stack with a dictionary, and a run of it that has begun."""

    stack: Stack
    client: Client
    dictionary_id: UUID
    run_id: UUID


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Yield a stack on which a run of two neurons of the bundled model has begun."""
    data: Path = tmp_path_factory.mktemp("real")
    with Stack(data) as stack, Client(stack.api_url, key=stack.key) as client:
        dictionary = client.submit_dictionary(NEURONS)
        run = client.submit_run(RunSpec.model_validate({"dictionary_id": dictionary.id, **TERMS}))
        yield Place(stack, client, dictionary.id, run.id)


@pytest.fixture
def window(browser: Browser, place: Place) -> Iterator[Visit]:
    """Yield a window on the stack's pages. A lost connection is noted by the browser itself, and is what is tested."""
    with visiting(browser, place.stack.api_url, place.stack.key) as opened:
        yield opened
        assert [error for error in opened.errors if "net::ERR_" not in error] == []


def kill_api(stack: Stack) -> None:
    """Kill the API; the stack starts it again."""
    (api,) = [one for one in psutil.Process(stack.pid).children(recursive=True) if "service.app:start" in one.cmdline()]
    api.kill()


def test_a_run_is_watched_to_its_end_while_the_api_goes_away_and_comes_back(place: Place, window: Visit) -> None:
    page = window.page
    window.go(f"/runs/{place.run_id}")
    expect(page.locator("#progress")).to_contain_text("exemplars", timeout=PATIENCE_MS)
    lost = page.locator("[data-connection]")
    expect(lost).to_be_hidden()
    kill_api(place.stack)
    expect(lost).to_contain_text("what is shown may be old", timeout=PATIENCE_MS)
    expect(lost).to_be_hidden(timeout=PATIENCE_MS)
    expect(page.locator("#head .chip").first).to_have_text("done", timeout=PATIENCE_MS)  # and nobody asked for it
    expect(page.locator("#report")).not_to_be_empty()
    run = place.client.run(place.run_id)
    assert (run.state, run.n_features) == ("done", 2)


def test_a_text_is_read_and_a_feature_steered_on_the_real_subject(place: Place, window: Visit) -> None:
    page = window.page
    window.go(f"/playground?dictionary={place.dictionary_id}")
    page.wait_for_load_state("networkidle")
    page.get_by_label("Text at most").fill("I hope that you can read your letter.")
    page.get_by_role("button", name="Read it").click()
    expect(page.locator("#tokens .token")).to_have_count(9, timeout=PATIENCE_MS)
    page.get_by_label("index, 0 to 1535").fill("513")
    page.keyboard.press("Enter")
    expect(page.locator("[data-picked='513']")).to_be_visible()
    page.locator("#prompt").fill("I think that")
    page.get_by_label("Strengths").fill("0.5, -0.5")
    page.get_by_label("New tokens").fill("8")
    page.get_by_role("button", name="Go on with and without it").click()
    expect(page.locator(".strength")).to_have_count(2, timeout=PATIENCE_MS)
    expect(page.locator(".strength").first).to_contain_text("nats")
    assert page.locator(".without .passage").inner_text().startswith("I think that")


def test_a_page_that_waits_for_a_result_outlives_the_api(place: Place, window: Visit) -> None:
    page = window.page
    window.go(f"/playground?dictionary={place.dictionary_id}")
    page.wait_for_load_state("networkidle")
    page.get_by_label("Text at most").fill("It was the best of times.")
    page.get_by_role("button", name="Read it").click()
    page.wait_for_url("**trial=**")
    kill_api(place.stack)
    expect(page.locator("#tokens")).to_contain_text("times", timeout=PATIENCE_MS)
