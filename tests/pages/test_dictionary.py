"""A dictionary's page: features sorted and filtered, all in the address; quality, scatter, keys; without scripts."""

import re
from functools import partial

import pytest
from playwright.sync_api import Page, expect

from schema.records import Dictionary
from schema.store import overviews
from tests.pages.browsing import NARROW
from tests.pages.conftest import Visitor, serious
from tests.pages.labelled import TEXTS, change, label, report
from tests.service.conftest import Api, SpecMaker, make_key
from tests.service.planting import measure

MINUS = "\N{MINUS SIGN}"


@pytest.fixture
def known(api: Api, neurons: Dictionary) -> Dictionary:
    """Return a dictionary with labels and a report."""
    change(api, partial(label, neurons))
    change(api, partial(report, neurons))
    return neurons


def path(dictionary: Dictionary, query: str = "") -> str:
    return f"/dictionaries/{dictionary.id}{query}"


def indices(page: Page) -> list[int]:
    page.wait_for_load_state()  # a click returns once another page begins
    return [int(text) for text in page.locator("td.index").all_inner_texts()]


def test_rows_have_lifts_with_intervals_and_their_controls(visit: Visitor, known: Dictionary) -> None:
    window = visit()
    window.go(path(known))
    row = window.page.locator("tbody tr", has_text="names of rivers")
    assert row.get_by_role("link", name="names of rivers").get_attribute("href") == f"{path(known)}/features/1"
    assert row.get_by_role("img", name="+0.40, between +0.20 and +0.60").count() == 1
    assert row.get_by_role("img", name=f"{MINUS}0.20, between {MINUS}0.40 and +0.00").count() == 1
    assert "0.92 against 0.51" in row.inner_text()
    assert row.locator("svg.spark path").get_attribute("d") == "M0 16v-16.0h2V16M6 16v-11.7h2V16"


def test_what_has_no_score_says_why_and_is_no_zero(visit: Visitor, known: Dictionary) -> None:
    window = visit()
    window.go(path(known, "?status=dead&status=unparsed"))
    assert indices(window.page) == [9, 11]
    lifts = window.page.locator("[data-name='Input lift']").all_inner_texts()
    assert [text.strip() for text in lifts] == ["too rare", "too rare"]
    assert window.page.locator("svg.bar").count() == window.page.locator("table.quality svg.bar").count()


def test_heads_sort_and_say_so_without_scripts(visit: Visitor, known: Dictionary) -> None:
    window = visit(java_script_enabled=False)
    window.go(path(known))
    head = window.page.get_by_role("columnheader", name="Input lift")
    head.get_by_role("link").click()
    assert indices(window.page)[:4] == [1, 3, 7, 5]
    assert head.get_attribute("aria-sort") == "descending"
    head.get_by_role("link").click()
    assert indices(window.page)[:4] == [5, 7, 3, 1]
    assert head.get_attribute("aria-sort") == "ascending"
    assert window.page.url.endswith("?sort=input_lift")


def test_the_form_filters_without_scripts(visit: Visitor, known: Dictionary) -> None:
    window = visit(java_script_enabled=False)
    window.go(path(known))
    window.page.get_by_label("Label contains").fill("RIVER")
    window.page.get_by_text("Filters", exact=True).click()
    window.page.get_by_role("spinbutton", name="Input lift, least").fill("0.3")
    window.page.get_by_role("button", name="Show").click()
    assert indices(window.page) == [1]
    assert window.page.get_by_label("Label contains").input_value() == "RIVER"
    window.page.get_by_role("link", name="input lift at least 0.3").click()
    assert indices(window.page) == [1, 3]
    window.page.get_by_role("link", name="no filters").click()
    assert len(indices(window.page)) == 16


def test_rows_follow_as_one_types_and_the_address_says_so(visit: Visitor, api: Api, known: Dictionary) -> None:
    window = visit()
    window.go(path(known))
    window.page.keyboard.press("/")
    window.page.keyboard.type("boats")
    expect(window.page.locator("td.index")).to_have_text(["3"])
    assert window.page.url == f"{api.url}{path(known)}?q=boats"
    expect(window.page.locator("[data-tells]")).to_have_text("1 feature")
    assert window.page.evaluate("document.activeElement.name") == "q"
    window.page.get_by_text("Filters", exact=True).click()
    window.page.get_by_label("dead", exact=True).check()
    expect(window.page.locator("#results")).to_contain_text("Nothing passes these filters")
    window.page.get_by_label("dead", exact=True).uncheck()
    window.page.locator("select[name=sort]").select_option("-output_lift")
    window.page.get_by_label("Label contains").fill("")
    expect(window.page.locator("td.index")).to_have_count(16)
    assert window.page.url == f"{api.url}{path(known)}?sort=-output_lift"
    window.page.reload()
    assert indices(window.page)[:4] == [3, 7, 5, 1]
    assert window.page.locator("select[name=sort]").input_value() == "-output_lift"


def test_keys_go_from_row_to_row_and_open_one(visit: Visitor, api: Api, known: Dictionary) -> None:
    window = visit()
    window.go(path(known))
    for key in ("j", "j", "j", "k"):
        window.page.keyboard.press(key)
    assert window.page.evaluate("document.activeElement.textContent") == TEXTS[1]
    window.page.get_by_label("Label contains").focus()
    window.page.keyboard.type("j")
    assert window.page.get_by_label("Label contains").input_value() == "j"
    window.page.keyboard.press("Escape")
    window.page.keyboard.press("j")
    with window.page.expect_navigation():
        window.page.keyboard.press("Enter")
    assert window.page.url == f"{api.url}{path(known)}/features/0"


def test_pages_follow_each_other(visit: Visitor, known: Dictionary) -> None:
    window = visit()
    window.go(path(known, "?limit=6&sort=-density"))
    assert indices(window.page) == [15, 14, 13, 12, 11, 10]
    window.page.get_by_role("link", name="Next page").click()
    window.page.wait_for_url(re.compile("cursor="))
    assert indices(window.page) == [9, 8, 7, 6, 5, 4]
    window.page.get_by_role("link", name="First page").click()
    window.page.wait_for_url(re.compile("limit=6$|density$"))
    assert indices(window.page)[0] == 15


def test_a_part_of_the_scatter_that_is_picked_filters_the_rows(visit: Visitor, api: Api, known: Dictionary) -> None:
    window = visit()
    window.go(path(known))
    expect(window.page.locator("#scatter figcaption")).to_have_text("All 4 features with both lifts")
    plot = window.page.locator("#scatter .u-over")
    box = plot.bounding_box()
    assert box is not None
    window.page.mouse.move(box["x"] + box["width"] * 0.52, box["y"] + 2)
    window.page.mouse.down()
    window.page.mouse.move(box["x"] + box["width"] - 2, box["y"] + box["height"] * 0.48, steps=4)
    window.page.mouse.up()
    expect(window.page.locator("td.index")).to_have_text(["3", "7"])
    assert re.search(r"min_input_lift=0.0\d+.*max_output_lift=1.0\d+", window.page.url)
    expect(window.page.get_by_label("Filters in force").get_by_role("listitem")).to_have_count(5)


def test_the_page_takes_few_requests_and_nothing_moves(visit: Visitor, known: Dictionary) -> None:
    window = visit()
    asked: list[str] = []
    window.page.on("request", lambda request: asked.append(request.url))
    window.page.add_init_script(
        "window.moved = 0; new PerformanceObserver(list => list.getEntries().forEach(one => window.moved += one.value))"
        ".observe({type: 'layout-shift', buffered: true})"
    )
    window.go(path(known))
    window.page.locator("#scatter .u-over").wait_for()
    assert len(asked) <= 12
    assert window.page.evaluate("window.moved") < 0.01


def test_a_large_dictionary_shows_a_sample_that_stays(
    api: Api, known: Dictionary, monkeypatch: pytest.MonkeyPatch
) -> None:
    def drawn(most: int) -> overviews.Sample:
        sample: overviews.Sample = change(api, lambda c: overviews.sample(c, known.id, 16, most))
        return sample

    assert [one.feature for one in drawn(10).items] == [1, 3, 5, 7]
    assert (len(drawn(2).items), drawn(2).n_known, drawn(2)) == (2, 4, drawn(2))
    monkeypatch.setattr(overviews, "MOST_LISTED", 3)
    assert drawn(16) == (drawn(16).items, None)
    assert len(drawn(16).items) == 4


def test_the_scatter_is_a_page_of_its_own_without_scripts(visit: Visitor, known: Dictionary) -> None:
    window = visit(java_script_enabled=False)
    window.go(path(known))
    window.page.get_by_role("link", name="Input lift against output lift").click()
    window.page.get_by_text("As a table").click()
    assert window.page.locator("#scatter tbody tr").first.inner_text().split() == ["0.400", f"{MINUS}0.200", "1"]


def test_quality_by_method_stands_beside_its_controls(visit: Visitor, known: Dictionary) -> None:
    window = visit()
    window.go(path(known))
    table = window.page.get_by_role("table", name="Quality by method")
    line = table.get_by_role("row", name="lexical")
    assert line.get_by_role("img", name="+0.35, between +0.25 and +0.45").is_visible()
    assert "75% of 4" in line.inner_text()
    assert "0.34 [0.29, 0.39]" in table.get_by_role("row", name="Control").inner_text()
    assert "by chance 0.33" in table.get_by_role("row", name="Control").inner_text()


def test_hostile_labels_are_text_and_short(visit: Visitor, known: Dictionary) -> None:
    window = visit()
    answer = window.go(path(known))
    assert len(answer.body()) < 60_000
    cell = window.page.locator("table.features tbody tr").nth(5).locator("a bdi")
    assert cell.inner_text().startswith("<script>alert(1)</script>")
    assert cell.evaluate("element => getComputedStyle(element).unicodeBidi") == "isolate"


def test_a_dictionary_that_was_never_run_says_how_to_begin(visit: Visitor, neurons: Dictionary) -> None:
    window = visit(java_script_enabled=False)
    window.go(path(neurons))
    said = window.page.locator(".notice").inner_text()
    assert f"glossarium run {neurons.id} --features random:24:0" in said


def test_how_well_it_reconstructs_is_said_and_what_may_be_wrong_with_it(
    visit: Visitor, api: Api, known: Dictionary
) -> None:
    (run,) = api.client.runs(known.id)
    window = visit()
    window.go(path(known))
    assert "FVU" not in window.page.locator("main").inner_text()
    measure(api.settings.database_url, run.id)
    window.go(path(known))
    assert "FVU 0.17, L0 32.0, 2.1% silent on 3,842 tokens" in window.page.locator(".strip").inner_text()
    assert window.page.locator(".notice:visible").count() == 0
    doubt = {"mistake": "layer", "suggestion": "<b>", "fvu": 0.1, "by_dimension": 0.1, "certain": False}
    measure(api.settings.database_url, run.id, suspicions=[doubt], verdict="but not as well as elsewhere: <b>")
    window.go(path(known))
    assert "but not as well as elsewhere: <b>" in window.page.locator(".notice:visible").inner_text()


def test_a_dictionary_without_weights_says_what_it_waits_for(visit: Visitor, api: Api, spec_of: SpecMaker) -> None:
    waiting = api.client.submit_dictionary(spec_of())
    window = visit()
    window.go(path(waiting))
    assert "waits for its weights" in window.page.locator("main").inner_text()
    assert window.page.locator("#scatter").count() == 0


def test_what_is_not_there_or_makes_no_sense_helps(visit: Visitor, api: Api, known: Dictionary) -> None:
    window = visit()
    assert window.go("/dictionaries/5f0c4a3e-7b61-4f0d-9c55-2f6f1a7f0b42").status == 404
    assert window.go(path(known, "?min_input_lift=much&sort=nonsense")).status == 422
    assert "min_input_lift='much'" in window.page.get_by_role("alert").inner_text()
    assert window.go(path(known, "?min_input_lift=&status=&unknown=1")).status == 200
    api.client.delete_dictionary(known.id)
    assert window.go(path(known)).status == 404


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_narrow_and_in_either_theme(visit: Visitor, api: Api, known: Dictionary, scheme: str) -> None:
    window = visit(viewport=NARROW, color_scheme=scheme, key=make_key(api.settings.database_url, "read"))
    window.go(path(known, "?status=ok"))
    window.page.locator("#scatter .u-over").wait_for()
    window.page.get_by_text("Filters", exact=True).click()
    assert serious(window.page) == []
    assert window.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    window.page.set_viewport_size({"width": 1280, "height": 900})
    assert serious(window.page) == []
