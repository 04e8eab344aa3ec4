"""The page that compares two runs, or two methods: what it counts, in which order, and how it is asked."""

import math
from uuid import UUID

import pytest
from playwright.sync_api import expect

from schema.records import Dictionary, Encoder
from schema.store import contrasts, database, runs
from service.pages.contrasting import mean_difference, word_changes
from tests.pages.browsing import NARROW, Visit
from tests.pages.conftest import Visitor, serious
from tests.pages.planted_runs import HOSTILE, describe, label, submit, two_runs
from tests.service.conftest import Api, SpecMaker, make_key

TEXTS = [
    ("names of rivers", "names of rivers"),
    ("names of rivers in Europe", "names of lakes in Europe"),
    (None, "boats"),
    ("bridges", None),
    ("old " + HOSTILE * 1600, "new " + HOSTILE * 1600),
    ("fords", "fords"),
    ("a", "a"),
]


@pytest.fixture
def two(api: Api, neurons: Dictionary) -> tuple[UUID, UUID]:
    """Return two runs, before and after."""
    return two_runs(api, neurons, TEXTS)


def headings(window: Visit) -> list[str]:
    return window.page.locator("ol.contrasts h3").all_inner_texts()


def test_two_runs_are_compared_with_the_biggest_changes_first(
    visit: Visitor, neurons: Dictionary, two: tuple[UUID, UUID]
) -> None:
    before, after = two
    window = visit(java_script_enabled=False)
    window.go(f"/compare?run={after}&other={before}")
    assert headings(window) == [f"Feature {feature}" for feature in (6, 5, 4, 1, 2, 3)]
    summary = window.page.get_by_role("region", name="In all").inner_text()
    assert "Of 7 features that both selected and at least one labelled: (9 more have no label of either)" in summary
    for said in ("2 have another text", "1 gained a label", "1 lost theirs", "2 have the same text", "1 are the same"):
        assert said in summary
    expected = mean_difference([0.0, 0.1, 0.4, 0.5, 0.6])
    assert expected is not None
    assert f"{expected.value:+.2f} [{expected.low:+.2f}, {expected.high:+.2f}]" in summary.replace(
        "\N{MINUS SIGN}", "-"
    )
    third = window.page.locator("ol.contrasts > li").nth(3)
    assert third.locator("ins").all_inner_texts() == ["lakes"]
    assert third.locator("del").all_inner_texts() == ["rivers"]
    assert third.get_by_role("link", name="Feature 1").get_attribute("href") == f"/dictionaries/{neurons.id}/features/1"
    assert len(window.page.content()) < 150_000
    assert "<script>alert(1)</script>" in window.page.locator("ol.contrasts > li").nth(2).inner_text()


def test_only_some_changes_are_shown_on_demand(visit: Visitor, two: tuple[UUID, UUID]) -> None:
    before, after = two
    window = visit()
    window.go(f"/compare?run={after}&other={before}")
    window.page.get_by_role("link", name="1 lost theirs").press("Enter")
    expect(window.page.locator("ol.contrasts h3")).to_have_text(["Feature 3"])
    assert "change=lost" in window.page.url
    assert "no text" in window.page.locator("ol.contrasts").inner_text()
    window.page.get_by_role("link", name="All that changed").click()
    expect(window.page.locator("ol.contrasts h3")).to_have_count(6)


def test_a_part_of_a_large_run_is_compared_at_a_time(api: Api, two: tuple[UUID, UUID], visit: Visitor) -> None:
    before, after = two
    with database.connect(api.settings.database_url) as connection:
        mine, theirs = (runs.get(connection, 1, id_) for id_ in (after, before))
        first = contrasts.of_runs(connection, mine, theirs, most=4)
        rest = contrasts.of_runs(connection, mine, theirs, after=first.after or 0, most=100)
        backwards = contrasts.of_runs(connection, theirs, mine, most=4)
    assert ([one.feature for one in first.contrasts], first.after) == ([0, 1, 2, 3], 3)
    assert (rest.contrasts[0].feature, rest.n_looked_at, rest.after) == (4, 12, None)
    assert [one.change for one in first.contrasts] == ["same", "changed", "new", "lost"]
    assert [one.change for one in backwards.contrasts] == ["same", "changed", "lost", "new"]
    window = visit()
    window.go(f"/compare?run={after}&other={before}&after=3")
    assert headings(window) == ["Feature 6", "Feature 5", "Feature 4"]
    window.page.get_by_role("link", name="First").click()
    expect(window.page.locator("ol.contrasts h3")).to_have_count(6)


def test_two_methods_of_a_run_are_compared(visit: Visitor, api: Api, neurons: Dictionary) -> None:
    run = submit(api, neurons)
    with database.connect(api.settings.database_url) as connection:
        lexical = {feature: (f"token {feature}", (0.1, 0.3)) for feature in range(6)}
        combined = {feature: (f"text {feature}", (0.1 + feature / 10, -0.3)) for feature in range(5)}
        describe(connection, run, {"lexical": lexical, "combined": combined})
    window = visit()
    window.go(f"/compare?run={run.id}&methods=lexical&methods=combined")
    page = window.page
    assert "too few features were measured" in page.locator("main").inner_text()
    with database.connect(api.settings.database_url) as connection:
        label(connection, run, 0, "token 0", (0.1, 0.3))
    window.go(f"/compare?run={run.id}&methods=lexical&methods=combined")
    assert headings(window) == [f"Feature {feature}" for feature in (0, 1, 2, 3, 4, 5)]
    summary = page.get_by_role("region", name="In all").inner_text()
    assert "1 only the first describes" in summary
    assert "lexical is better" in summary
    cells = page.locator("section.summary tbody tr").nth(1).locator("td").all_inner_texts()
    assert cells[-4:] == ["0", "5", "0", "0"]
    assert serious(page) == []


def test_what_to_compare_is_chosen_without_a_script(
    visit: Visitor, neurons: Dictionary, two: tuple[UUID, UUID]
) -> None:
    before, after = two
    window = visit(java_script_enabled=False)
    window.go("/compare")
    page = window.page
    page.get_by_label("Before").select_option(str(before))
    page.get_by_label("After").select_option(str(after))
    page.get_by_role("button", name="Compare the runs").click()
    assert page.get_by_role("heading", name="Two runs, feature by feature").is_visible()
    page.get_by_text("Compare others").click()
    assert page.get_by_label("Before").input_value() == str(before)
    page.get_by_label("Run", exact=True).select_option(str(after))
    page.get_by_label("One method").select_option("combined")
    page.get_by_label("The other").select_option("lexical")
    page.get_by_role("button", name="Compare the methods").click()
    assert page.get_by_role("heading", name="Combined and lexical").is_visible()
    window.go(f"/compare?run={after}&other=")
    assert "Choose what to compare the run with" in page.locator("main").inner_text()


def test_runs_of_two_dictionaries_are_not_compared(
    visit: Visitor, api: Api, two: tuple[UUID, UUID], spec_of: SpecMaker
) -> None:
    made = api.client.submit_dictionary(
        spec_of(read_site="mlp_hidden.2", encoder=Encoder(kind="neurons"), n_features=16)
    )
    other = submit(api, made)
    window = visit()
    assert window.go(f"/compare?run={two[0]}&other={other.id}").status == 422
    assert "two dictionaries" in window.page.get_by_role("alert").inner_text()


def test_nothing_to_compare_is_said(visit: Visitor, api: Api, neurons: Dictionary) -> None:
    window = visit()
    window.go("/compare")
    assert "There are no runs yet" in window.page.locator("main").inner_text()
    run = submit(api, neurons)
    window.go(f"/compare?run={run.id}&methods=lexical&methods=combined")
    assert "left no descriptions by these methods yet" in window.page.locator("main").inner_text()
    window.go(f"/compare?run={run.id}&methods=lexical&methods=lexical")
    assert "A method says the same as itself" in window.page.locator("main").inner_text()
    assert window.go(f"/compare?run={run.id}&other={neurons.id}").status == 404
    assert window.go("/compare?run=nonsense").status == 422
    assert window.go(f"/compare?run={run.id}&methods=magic&methods=lexical").status == 422
    foreign = visit(key=make_key(api.settings.database_url, "read", "another"))
    assert foreign.go(f"/compare?run={run.id}&other={run.id}").status == 404


def test_pages_that_compare_are_accessible_and_narrow(visit: Visitor, two: tuple[UUID, UUID]) -> None:
    before, after = two
    for scheme in ("light", "dark"):
        window = visit(color_scheme=scheme, viewport=NARROW)
        for path in ("/compare", f"/compare?run={after}&other={before}"):
            window.go(path)
            assert serious(window.page) == []
            main = window.page.locator("main").bounding_box()
            assert main is not None
            assert main["width"] <= NARROW["width"]


def test_a_mean_of_pairs_has_students_interval() -> None:
    found = mean_difference([1.0, 2.0, 3.0, 4.0, 5.0])
    assert found is not None
    assert found.value == 3.0
    assert found.high - 3.0 == pytest.approx(2.776 * math.sqrt(2.5) / math.sqrt(5), abs=1e-3)
    many = mean_difference([0.0, 1.0] * 10)
    assert many is not None
    assert many.high - 0.5 == pytest.approx(2.0930 * math.sqrt(20 / 19 / 4) / math.sqrt(20), abs=1e-3)
    assert mean_difference([1.0, 2.0, 3.0, 4.0]) is None


def test_a_text_of_which_little_is_left_is_shown_plainly() -> None:
    assert word_changes("names of rivers", "names of lakes").count("<ins>") == 1
    assert word_changes("Failure: a failure.", "promotes verdicts") == "<bdi>promotes verdicts</bdi>"
