"""The feature page in a browser: the verdict first, all evidence after it, and a label that two people correct."""

import json
import re
import uuid
from itertools import pairwise

import pytest
from playwright.sync_api import Page, expect

from schema.edits import LabelEdit
from schema.labels import Status
from schema.records import Dictionary, RunSpec
from schema.store import database, features
from tests.pages.browsing import NARROW, WIDE
from tests.pages.conftest import Visitor, serious
from tests.pages.feature_planting import DEAD, FAILED, HOSTILE, LABEL, OLD, TOO_RARE, UNREACHABLE, WHOLE, plant
from tests.service.conftest import D_MLP, Api, make_key

MOST_BYTES, MOST_REQUESTS = 150_000, 12


@pytest.fixture
def known(api: Api, neurons: Dictionary) -> Dictionary:
    """Return a dictionary where everything is known of feature 3, and others have each status."""
    run = api.client.submit_run(RunSpec(dictionary_id=neurons.id, features="3"))
    with database.connect(api.settings.database_url) as connection:
        plant(connection, neurons.id, D_MLP, run.id)
    return neurons


def path_of(dictionary: Dictionary, index: int) -> str:
    return f"/dictionaries/{dictionary.id}/features/{index}"


def overflow(page: Page) -> int:
    """Return by how many pixels a page is wider than its window."""
    return int(page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))


def test_the_label_its_verdicts_and_the_evidence_are_seen_at_once(visit: Visitor, known: Dictionary) -> None:
    window = visit(viewport=WIDE)
    page = window.page
    assert window.go(path_of(known, WHOLE)).status == 200
    assert page.get_by_role("heading", level=1).inner_text() == LABEL
    for text in ("Passes all 3 tests", "+0.41 [+0.27, +0.52]", "Input", "better than the control"):
        place = page.get_by_text(text).first
        expect(place).to_be_in_viewport()
    look = page.locator(".look")
    expect(look.locator("mark").first).to_be_in_viewport()
    expect(look.get_by_text("boat", exact=False).first).to_be_in_viewport()
    expect(look.locator("mark").first).to_have_attribute("title", "8")
    assert page.get_by_role("img", name="+0.41, between +0.27 and +0.52").first.is_visible()


def test_exemplars_come_in_bands_and_all_of_them_when_asked_for(visit: Visitor, known: Dictionary) -> None:
    window = visit()
    page = window.page
    window.go(path_of(known, WHOLE))
    names = page.locator("#exemplars h3").all_inner_texts()
    assert [name.split(" activation")[0].split(" the top")[0] for name in names] == [
        "Strongest",
        "50% to 75% of the maximum",
        "25% to 50% of the maximum",
        "0% to 25% of the maximum",
    ]
    assert "of its firing" in names[1]
    halves = set(page.locator("#exemplars .half").all_inner_texts())
    assert halves >= {"describe", "score"}
    page.get_by_text("Hard negatives").click()
    expect(page.locator("#exemplars details.hard u").first).to_be_visible()
    few = page.locator("#exemplars .window").count()
    page.get_by_role("link", name=re.compile("Show all")).click()
    page.wait_for_url("**?exemplars=all#exemplars")
    assert page.locator("#exemplars .window").count() > few


def test_the_logits_of_the_projection_are_drawn_and_told(visit: Visitor, known: Dictionary) -> None:
    window = visit()
    window.go(path_of(known, WHOLE))
    chart = window.page.locator("#tokens figure.chart")
    expect(chart.locator("canvas")).to_be_visible()
    chart.get_by_text("As a table").click()
    rows = chart.locator("tbody tr").all_inner_texts()
    assert rows == ["\N{MINUS SIGN}2 to 0\t3", "0 to 2\t40", "2 to 4\t20", "4 to 6\t1"]


def test_a_peak_shows_its_value_to_the_keyboard(visit: Visitor, known: Dictionary) -> None:
    window = visit()
    window.go(path_of(known, WHOLE))
    peak = window.page.locator("#exemplars mark[tabindex]").first
    peak.focus()
    shown = peak.evaluate("place => getComputedStyle(place, '::after').content")
    assert shown == '"8"'


def test_arabic_reads_from_right_to_left_across_tokens(visit: Visitor, known: Dictionary) -> None:
    window = visit()
    window.go(f"{path_of(known, WHOLE)}?exemplars=all")
    first, second = window.page.evaluate(
        """() => {
          const box = (text) => {
            const walker = document.createTreeWalker(document.querySelector("#exemplars"), NodeFilter.SHOW_TEXT);
            while (walker.nextNode()) {
              const at = walker.currentNode.data.indexOf(text);
              if (at < 0) continue;
              const range = document.createRange();
              range.setStart(walker.currentNode, at);
              range.setEnd(walker.currentNode, at + text.length);
              return range.getBoundingClientRect().x;
            }
          };
          return [box("نهر"), box("طويل")];
        }"""
    )
    assert second < first


def test_what_makes_others_text_dangerous_is_text_here(visit: Visitor, known: Dictionary) -> None:
    window = visit()
    for path in (path_of(known, HOSTILE), path_of(known, WHOLE), f"{path_of(known, HOSTILE)}/prompts"):
        answer = window.go(path)
        assert answer.status == 200
        assert len(answer.body()) < MOST_BYTES
        assert "taken" not in window.page.title()
        assert window.page.locator("script:not([src]), img").count() == 0
        assert overflow(window.page) <= 0
    assert "100," in window.page.locator("main").inner_text() or "characters in all" in window.page.content()


def test_tokens_of_both_ways_stand_beside_each_other(visit: Visitor, known: Dictionary) -> None:
    window = visit()
    page = window.page
    window.go(path_of(known, WHOLE))
    assert page.locator("#tokens h4").all_inner_texts() == [
        "Promoted",
        "Suppressed",
        "Amplified: raised",
        "Amplified: lowered",
        "Suppressed: raised",
        "Suppressed: lowered",
    ]
    first = page.locator("#tokens .bars.promote li").first.inner_text()
    assert "boat" in first
    assert "+9.0" in first
    assert "⏎" in page.locator("#tokens").inner_text()
    assert page.get_by_text("10 of 10 tokens that amplifying raises").is_visible()
    page.locator("#tokens summary").first.click()
    assert page.get_by_text("boat20").first.is_visible()


def test_steering_says_what_was_not_reached(visit: Visitor, known: Dictionary) -> None:
    window = visit()
    page = window.page
    window.go(path_of(known, WHOLE))
    assert page.locator("#steering").get_by_text("not reached").first.is_visible()
    heads = page.locator("#steering table.steered").first.locator("th").all_inner_texts()
    assert [head.split()[0] for head in heads] == ["suppressed", "unsteered", "amplified"]
    assert "the river is wide" in page.locator("#steering table.steered").first.inner_text()
    page.get_by_text("Texts that only judges see").click()
    assert page.get_by_text("My idea is").first.is_visible()
    assert page.locator("#steering canvas").count() == 1
    assert page.locator("#exemplars canvas").count() == 1


def test_descriptions_say_why_one_won_and_how_all_were_tested(visit: Visitor, known: Dictionary) -> None:
    window = visit()
    page = window.page
    window.go(path_of(known, WHOLE))
    rows = page.locator("#descriptions .candidates tbody tr")
    assert [row.split()[0] for row in rows.all_inner_texts()] == ["combined", "lexical", "vocabulary"]
    assert "unparsed" in rows.nth(2).inner_text()
    assert "no word" in rows.nth(2).inner_text()
    assert page.get_by_text("it is the surest: 0.90, and the next \N{MINUS SIGN}0.10 (lexical)").is_visible()
    tested = page.locator("#descriptions details[open]").first
    assert "4.5 fires" in tested.inner_text()
    tested.get_by_text("2 trials of the embedding judge: right on 1.5, with wrong labels on 1").click()
    assert tested.get_by_role("link", name="9").first.get_attribute("href") == path_of(known, 9)
    assert tested.get_by_text("The LLM judge: right, unparsed.").is_visible()


def test_history_shows_what_changed(visit: Visitor, known: Dictionary) -> None:
    window = visit()
    window.go(path_of(known, WHOLE))
    past = window.page.locator("#history .past li")
    assert past.count() == 2
    assert past.first.locator("ins").all_inner_texts() == ["rivers", " and bridges"]
    assert past.first.locator("del").all_inner_texts() == ["streams"]
    assert OLD in past.nth(1).inner_text()
    assert "stands" in past.first.inner_text()


def test_keys_go_to_the_features_beside_but_not_while_typing(visit: Visitor, known: Dictionary, api: Api) -> None:
    window = visit()
    page = window.page
    for key, index in (("ArrowRight", 4), ("]", 5), ("[", 4), ("ArrowLeft", 3), ("}", HOSTILE), ("{", 3)):
        if key == "ArrowRight":
            window.go(path_of(known, WHOLE))
        page.keyboard.press(key)
        page.wait_for_url(f"{api.url}{path_of(known, index)}")
        page.wait_for_load_state()
    page.get_by_text("Correct the label").click()
    page.get_by_label("Label", exact=True).press("[")
    page.get_by_label("Label", exact=True).press("ArrowLeft")
    assert page.url.endswith("/3")
    window.go(path_of(known, 0))
    assert page.get_by_role("link", name=re.compile("^\N{SINGLE LEFT-POINTING ANGLE QUOTATION MARK}")).count() == 0


def test_a_text_goes_from_the_feature_to_the_playground(visit: Visitor, known: Dictionary) -> None:
    window = visit()
    page = window.page
    window.go(path_of(known, WHOLE))
    page.get_by_label("A text of yours").fill("the Danube & the Rhine")
    page.keyboard.press("Enter")
    page.wait_for_url("**/playground?**")
    assert page.locator("#text").input_value() == "the Danube & the Rhine"
    assert page.locator(f"[data-picked='{WHOLE}']").count() == 1


def test_a_label_is_corrected_and_withdrawn(visit: Visitor, known: Dictionary, api: Api) -> None:
    window = visit()
    page = window.page
    window.go(path_of(known, WHOLE))
    page.get_by_role("link", name="correct it").click()
    page.get_by_label("Label", exact=True).fill("names of\nrivers")
    page.get_by_label("Your name", exact=False).fill("ada")
    page.get_by_label("Why").fill("no bridges")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("names of rivers")
    assert page.locator(".sum", has_text="Not tested").is_visible()
    assert page.get_by_text("no bridges").first.is_visible()
    page.get_by_text("Correct the label").click()
    page.get_by_role("button", name="Withdraw").click()
    expect(page.get_by_role("heading", level=1)).to_have_text(LABEL)
    assert api.client.feature(known.id, WHOLE).summary.label == LABEL


def test_who_comes_second_sees_the_other_text_and_decides(visit: Visitor, known: Dictionary, api: Api) -> None:
    window = visit()
    page = window.page

    def begin(mine: str, theirs: str) -> None:
        window.go(path_of(known, WHOLE))
        seen = api.client.feature(known.id, WHOLE).label
        assert seen is not None
        edit = LabelEdit(text=theirs, author="bob", seen=seen.id)
        page.get_by_text("Correct the label").click()
        page.get_by_label("Label", exact=True).fill(mine)
        path = f"/v1/dictionaries/{known.id}/features/{WHOLE}/label"
        assert api.http.put(path, json=edit.model_dump()).status_code == 200
        page.get_by_role("button", name="Save").click()
        expect(page.get_by_role("alert")).to_contain_text(theirs)
        expect(page.get_by_role("alert")).to_contain_text("bob")

    begin("mine", "theirs")
    page.get_by_role("button", name="Keep theirs").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("theirs")
    begin("mine again", "theirs again")
    page.get_by_role("button", name="Put mine over it").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("mine again")


def test_a_key_that_only_reads_is_offered_no_change(visit: Visitor, known: Dictionary, api: Api) -> None:
    window = visit(key=make_key(api.settings.database_url, "read"))
    window.go(path_of(known, WHOLE))
    assert window.page.locator("[data-edit], #try").count() == 0
    assert window.page.get_by_role("link", name="correct it").count() == 0


def test_prompts_and_replies_are_there_word_for_word(visit: Visitor, known: Dictionary) -> None:
    window = visit()
    page = window.page
    window.go(path_of(known, WHOLE))
    page.get_by_role("link", name="What was asked for each").click()
    assert page.get_by_text('{"trigger": "names of rivers"}').is_visible()
    assert page.get_by_text("Prompts are written now, from the newest evidence").is_visible()
    assert page.get_by_text("The prompt file is not the one that was asked with").first.is_visible()
    page.get_by_text(re.compile("^Prompt, about")).first.click()
    assert page.get_by_text("<<Danube0>>").first.is_visible()
    assert serious(page) == []


@pytest.mark.parametrize(
    ("index", "said"),
    [
        (DEAD, "It never fired on 31,204 tokens"),
        (TOO_RARE, "it fires in 1 contexts; needs 3"),
        (FAILED, "its judge's job failed"),
        (UNREACHABLE, "No strength that was tried"),
        (0, "No run has been about this feature yet"),
    ],
)
def test_each_status_has_a_page_that_explains(visit: Visitor, known: Dictionary, index: int, said: str) -> None:
    window = visit()
    assert window.go(path_of(known, index)).status == 200
    assert said in window.page.locator(".head").inner_text()
    assert "0.00" not in window.page.locator(".head").inner_text()


def test_what_is_not_there_says_what_is(visit: Visitor, known: Dictionary, api: Api) -> None:
    window = visit()
    for index in ("16", "-1", "99999999999999999999"):
        assert window.go(f"/dictionaries/{known.id}/features/{index}").status == 404
        assert "must be 0..15" in window.page.get_by_role("alert").inner_text()
    assert window.go(path_of(known.model_copy(update={"id": uuid.uuid4()}), 3)).status == 404
    other = visit(key=make_key(api.settings.database_url, tenant="others"))
    assert other.go(path_of(known, WHOLE)).status == 404
    assert window.go(f"{path_of(known, WHOLE)}?exemplars=some").status == 422


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_can_be_used_by_everybody_on_any_screen(visit: Visitor, known: Dictionary, scheme: str) -> None:
    for size in (WIDE, NARROW):
        window = visit(color_scheme=scheme, viewport=size)
        window.go(path_of(known, WHOLE))
        window.page.evaluate("document.querySelectorAll('details').forEach((one) => (one.open = true))")
        assert overflow(window.page) <= 0
        assert serious(window.page) == []
        levels = [
            int(name[1]) for name in window.page.locator("h1, h2, h3, h4").evaluate_all("a => a.map(b => b.tagName)")
        ]
        assert levels[0] == 1
        assert all(after <= before + 1 for before, after in pairwise(levels))


def test_it_is_read_without_scripts(visit: Visitor, known: Dictionary) -> None:
    window = visit(java_script_enabled=False)
    page = window.page
    window.go(path_of(known, WHOLE))
    assert page.get_by_role("heading", level=1).inner_text() == LABEL
    page.locator("#exemplars summary", has_text="As a table").click()
    assert page.get_by_role("cell", name="1 to 2").is_visible()
    page.get_by_text("Correct the label").click()
    assert page.get_by_text("Editing needs JavaScript").is_visible()
    page.get_by_role("link", name=re.compile("^4 ")).click()
    assert page.url.endswith("/4")


def test_it_is_light(visit: Visitor, known: Dictionary) -> None:
    window = visit()
    answers: list[int] = []
    window.page.on("requestfinished", lambda request: answers.append(request.sizes()["responseBodySize"]))
    window.go(path_of(known, WHOLE))
    window.page.wait_for_load_state("networkidle")
    assert len(answers) <= MOST_REQUESTS
    assert sum(answers) < MOST_BYTES


def test_features_beside_are_those_with_labels(api: Api, known: Dictionary) -> None:
    with database.connect(api.settings.database_url) as connection:
        assert features.get(connection, known.id, WHOLE).status == Status.OK
    text = api.http.get(path_of(known, 5), headers={"Accept": "text/html"}).text
    links = dict(re.findall(r'href="[^"]*/features/(\d+)" data-key="([^"]+)"', text))
    assert {json.dumps(key) for key in links} == {'"3"', '"4"', '"6"', '"8"'}
    assert links == {"3": "{", "4": "[", "6": "]", "8": "}"}
