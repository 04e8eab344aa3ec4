"""The first page: what is labelled and how well, what goes on, and what to do on an empty install."""

import re
from functools import partial

import pytest

from schema.collections import CollectionSpec
from schema.records import Dictionary
from schema.store import overviews
from tests.pages.browsing import NARROW
from tests.pages.conftest import Visitor, serious
from tests.pages.labelled import change, label, report, run
from tests.service.conftest import Api, SpecMaker, make_key


def test_an_empty_install_says_how_to_begin(visit: Visitor) -> None:
    window = visit()
    window.go("/")
    assert "glossarium submit" in window.page.locator("pre").inner_text()
    assert "glossarium run" in window.page.locator("pre").inner_text()
    assert serious(window.page) == []


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("/search", "Search"),
        ("/playground", "There is no dictionary here yet"),
        ("/runs", "There are no runs yet"),
        ("/compare", "There are no runs"),
        ("/schedules", "There are none yet"),
    ],
)
def test_every_page_of_an_empty_install_helps(visit: Visitor, path: str, says: str) -> None:
    window = visit()
    assert window.go(path).status == 200
    assert says in window.page.locator("main").inner_text()
    assert serious(window.page) == []


def test_a_dictionary_shows_what_its_newest_report_says(visit: Visitor, api: Api, neurons: Dictionary) -> None:
    change(api, partial(label, neurons))
    change(api, partial(report, neurons))
    window = visit(java_script_enabled=False)
    window.go("/")
    row = window.page.locator("tbody tr")
    assert row.get_by_role("link", name="tiny").get_attribute("href") == f"/dictionaries/{neurons.id}"
    assert row.get_by_role("cell").nth(1).inner_text().split() == ["25%", "4"]
    assert row.get_by_role("img", name="+0.25, between +0.15 and +0.35").is_visible()
    assert "50% of 3 succeed" in row.inner_text()
    assert "done" in row.inner_text()


def test_what_was_never_run_has_no_figures(visit: Visitor, neurons: Dictionary) -> None:
    window = visit()
    window.go("/")
    cells = [cell.strip() for cell in window.page.locator("tbody td").all_inner_texts()]
    assert cells == ["16", "–", "–", "–", "none yet", "–"]


def test_labels_beyond_the_limit_are_taken_from_the_report(
    api: Api, neurons: Dictionary, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(api, partial(label, neurons))
    counted = partial(overviews.of_dictionaries, ids=[neurons.id])
    assert change(api, counted)[neurons.id].labelled == (4, False)
    monkeypatch.setattr(overviews, "MOST_COUNTED", 2)
    assert change(api, counted)[neurons.id].labelled == (2, True)
    change(api, partial(report, neurons))
    assert change(api, counted)[neurons.id].labelled == (3, True)


def test_runs_in_progress_are_live_and_leave_when_they_are_over(visit: Visitor, api: Api, neurons: Dictionary) -> None:
    id_ = change(api, partial(run, neurons))
    window = visit()
    window.go("/")
    running = window.page.locator("#running")
    running.get_by_role("link").focus()
    assert running.get_by_role("progressbar", name="exemplars").get_attribute("max") == "2"
    change(api, lambda c: c.execute("UPDATE job SET state = 'done' WHERE stage = 'exemplars' AND corpus_shard = 0"))
    window.page.wait_for_selector("#running progress[aria-label=exemplars][value='1']", timeout=6000)
    assert window.page.evaluate("document.activeElement.id") == f"run-{id_}"
    assert serious(window.page) == []
    change(api, lambda c: c.execute("UPDATE run SET state = 'cancelled' WHERE id = %s", (id_,)))
    window.page.wait_for_selector("#dictionaries .chip:text('cancelled')", timeout=6000)
    assert running.inner_text() == ""


def test_dictionaries_are_paged_newest_first_and_by_collection(visit: Visitor, api: Api, spec_of: SpecMaker) -> None:
    made = [api.client.submit_dictionary(spec_of(name=f"number {i}")) for i in range(22)]
    collection = api.client.create_collection(CollectionSpec(name="a pair", dictionary_ids=(made[0].id, made[1].id)))
    window = visit()
    window.go("/")
    names = window.page.locator("tbody th a")
    assert names.all_inner_texts() == [f"number {i}" for i in range(21, 1, -1)]
    window.page.get_by_role("link", name="Next page").click()
    window.page.wait_for_url(re.compile("cursor="))
    assert names.all_inner_texts() == ["number 1", "number 0"]
    window.page.get_by_role("link", name="First page").click()
    window.page.get_by_role("link", name="a pair").click()
    window.page.wait_for_url(f"{api.url}/?collection_id={collection.id}")
    assert names.all_inner_texts() == ["number 1", "number 0"]
    assert window.page.get_by_role("heading", level=1).inner_text() == "a pair"


def test_a_collection_or_a_dictionary_of_others_is_not_found(visit: Visitor, api: Api, neurons: Dictionary) -> None:
    collection = api.client.create_collection(CollectionSpec(name="mine", dictionary_ids=(neurons.id,)))
    change(api, lambda c: c.execute("INSERT INTO tenant VALUES (2, 'others')"))
    window = visit(key=make_key(api.settings.database_url, "read", "others"))
    assert window.go(f"/?collection_id={collection.id}").status == 404
    assert window.go(f"/dictionaries/{neurons.id}").status == 404
    assert window.go(f"/dictionaries/{neurons.id}/scatter").status == 404
    window.go("/")
    assert "Nothing is here yet" in window.page.locator("main").inner_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_narrow_and_in_either_theme(visit: Visitor, api: Api, neurons: Dictionary, scheme: str) -> None:
    change(api, partial(label, neurons))
    change(api, partial(report, neurons))
    change(api, partial(run, neurons))
    window = visit(viewport=NARROW, color_scheme=scheme)
    window.go("/")
    assert serious(window.page) == []
    assert window.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
