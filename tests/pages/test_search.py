"""The search page: by words, by meaning and by token, as one types and without scripts, and when meaning is away."""

import pytest
from playwright.sync_api import Page, expect

from schema.records import Dictionary
from tests.pages.browsing import NARROW
from tests.pages.conftest import Visitor, serious
from tests.service.conftest import Api
from tests.service.test_api_search import api, known, server  # noqa: F401


def labels(page: Page) -> list[str]:
    return page.locator("td.label a").all_inner_texts()


def test_hits_follow_as_one_types_and_link_to_features(
    visit: Visitor,
    api: Api,  # noqa: F811
    known: Dictionary,  # noqa: F811
) -> None:
    window = visit()
    window.go("/search")
    window.page.keyboard.press("/")
    window.page.keyboard.type("boats on rivers")
    first = window.page.locator("tbody tr").first
    expect(first).to_contain_text("boats on rivers")
    expect(first).to_contain_text("its meaning")
    expect(window.page).to_have_url(f"{api.url}/search?q=boats+on+rivers&mode=both")
    assert "similarity 1.00" in first.inner_text()
    assert "tiny, feature 0" in first.inner_text()
    assert first.get_by_role("link").get_attribute("href") == f"/dictionaries/{known.id}/features/0"
    assert serious(window.page) == []


def test_words_alone_and_filters_without_scripts(visit: Visitor, known: Dictionary) -> None:  # noqa: F811
    window = visit(java_script_enabled=False)
    window.go("/search")
    window.page.get_by_label("What labels say or mean").fill("river")
    window.page.locator("select[name=mode]").select_option("words")
    window.page.locator("select[name=dictionary_id]").select_option(str(known.id))
    window.page.get_by_role("button", name="Search").click()
    assert sorted(labels(window.page)) == ["A river in Europe", "boats on rivers"]
    window.page.get_by_text("Filters", exact=True).click()
    window.page.get_by_label("refused").check()
    window.page.get_by_role("button", name="Search").click()
    assert "Nothing found" in window.page.locator("#results").inner_text()
    assert window.page.get_by_label("refused").is_checked()


def test_words_that_are_spelt_nearly_so_say_so(visit: Visitor, known: Dictionary) -> None:  # noqa: F811
    window = visit()
    window.go("/search?q=cokking&mode=words")
    assert labels(window.page) == ["cooking fish"]
    assert "a word spelt nearly so" in window.page.locator("tbody").inner_text()


def test_tokens_keep_their_space_and_offer_what_is_near(visit: Visitor, api: Api, known: Dictionary) -> None:  # noqa: F811
    window = visit()
    window.go("/search")
    window.page.get_by_role("link", name="Tokens").click()
    window.page.get_by_label("Token, with its leading space").fill("boat")
    window.page.locator("select[name=side]").select_option("fires")
    expect(window.page.locator("#results")).to_contain_text("Near it")
    assert "No feature has exactly this token" in window.page.locator("#results").inner_text()
    window.page.get_by_role("link", name="·boat").click()
    window.page.wait_for_url(f"{api.url}/search?side=fires&token=+boat")
    assert labels(window.page) == [
        f"{text}" for text in ("boats on rivers", "A river in Europe", "cooking fish", "fish and boats")
    ]
    assert window.page.get_by_label("Token, with its leading space").input_value() == " boat"


def test_meaning_that_is_away_leads_to_words(
    visit: Visitor,
    api: Api,  # noqa: F811
    known: Dictionary,  # noqa: F811
    server: object,  # noqa: F811
) -> None:
    api.app.state.services.embedder._rests_until = float("inf")
    window = visit()
    window.go("/search?q=fish&mode=both")
    assert "searched by words only" in window.page.locator(".notice").inner_text()
    window.go("/search?q=fish&mode=meaning")
    assert "Meaning can't be searched now" in window.page.get_by_role("alert").inner_text()
    window.page.get_by_role("link", name="Search by words").click()
    expect(window.page.locator("tbody tr")).to_have_count(2)


def test_hostile_questions_are_text(visit: Visitor, known: Dictionary) -> None:  # noqa: F811
    window = visit()
    window.go("/search?q=%3Cscript%3Ealert(1)%3C%2Fscript%3E%22%3E&mode=words")
    assert window.page.get_by_label("What labels say or mean").input_value() == '<script>alert(1)</script>">'
    assert window.go("/search?q=%00").status == 422
    assert window.go("/search?q=++&mode=both").status == 200
    assert window.go(f"/search?q=x&dictionary_id={known.id.hex[::-1]}").status == 404


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_narrow_and_in_either_theme(visit: Visitor, known: Dictionary, scheme: str) -> None:  # noqa: F811
    window = visit(viewport=NARROW, color_scheme=scheme)
    window.go("/search?q=boats")
    assert serious(window.page) == []
    assert window.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
