"""The pages of runs: progress as it happens, spend, failures with their inputs, the report, and what changes a run."""

import pytest
from playwright.sync_api import expect

from schema.budgets import Cost
from schema.graph import JobKey, NewJob
from schema.labels import Status
from schema.records import Budget, Dictionary
from schema.stages import Stage
from schema.store import database, jobs, runs, spending
from tests.pages.browsing import NARROW
from tests.pages.conftest import Visitor, serious
from tests.pages.planted_runs import HOSTILE, bury, do_all, fail_label, finish, label, report, submit
from tests.service.conftest import Api, make_key


def work_one(api: Api) -> None:
    with database.connect(api.settings.database_url) as connection:
        job = jobs.claim(connection, list(Stage), owner="test", lease_s=60)
        assert job is not None
        jobs.finish(connection, job)


def test_runs_are_listed_newest_first_and_page_on(visit: Visitor, api: Api, neurons: Dictionary) -> None:
    window = visit()
    window.go("/runs")
    assert "There are no runs yet" in window.page.locator("main").inner_text()
    made = [submit(api, neurons, features=f"0-{last}").id for last in range(3)]
    window.go("/runs?limit=2")
    links = window.page.locator("tbody td:first-child a")
    assert [link.get_attribute("href") for link in links.all()] == [f"/runs/{id_}" for id_ in made[:0:-1]]
    assert serious(window.page) == []
    window.page.get_by_role("link", name="Next page").click()
    expect(links).to_have_count(1)
    window.page.get_by_role("link", name=neurons.spec.name).first.click()
    assert window.page.url.endswith(f"/dictionaries/{neurons.id}")


def test_progress_is_shown_as_it_happens(visit: Visitor, api: Api, neurons: Dictionary) -> None:
    run = submit(api, neurons)
    window = visit()
    window.go(f"/runs/{run.id}")
    rows = window.page.locator("table.stages tbody tr")
    expect(rows).to_have_count(3)
    expect(rows.first).to_contain_text("0 of 1")
    expect(rows.first.locator("td").nth(3)).to_have_text("–")
    window.page.get_by_text("Sizes").click()
    work_one(api)
    expect(rows.first).to_contain_text("1 of 1", timeout=4000)
    expect(rows.first).to_contain_text("done")
    assert window.page.get_by_text("pool size").is_visible()
    report(api, run)
    do_all(api)
    expect(window.page.get_by_role("heading", name="What it found")).to_be_visible(timeout=4000)
    expect(window.page.get_by_role("button", name="Pause")).to_have_count(0)
    assert serious(window.page) == []


def test_a_lost_connection_is_said_and_recovers(visit: Visitor, api: Api, neurons: Dictionary) -> None:
    run = submit(api, neurons)
    window = visit()
    window.page.route("**/events", lambda route: route.abort())
    window.go(f"/runs/{run.id}")
    lost = window.page.locator("[data-connection]")
    expect(lost).to_contain_text("The connection is lost")
    window.errors.clear()  # the browser's own words on the request that was cut
    window.page.unroute("**/events")
    expect(lost).to_be_hidden(timeout=15_000)
    work_one(api)
    expect(window.page.locator("table.stages tbody tr").first).to_contain_text("1 of 1")
    window.errors.clear()


def test_a_run_is_paused_resumed_and_cancelled_by_keyboard(visit: Visitor, api: Api, neurons: Dictionary) -> None:
    run = submit(api, neurons)
    window = visit()
    window.go(f"/runs/{run.id}")
    page = window.page
    page.get_by_role("button", name="Pause").press("Enter")
    expect(page.locator("#head .chip")).to_have_text("paused")
    assert api.client.run(run.id).state == "paused"
    expect(page.get_by_role("button", name="Resume")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#head .chip")).to_have_text("queued")
    page.get_by_role("button", name="Cancel …").press("Enter")
    assert page.get_by_role("dialog", name="Cancel this run?").is_visible()
    page.keyboard.press("Escape")
    assert api.client.run(run.id).state == "queued"
    page.get_by_role("button", name="Cancel …").press("Enter")
    page.get_by_role("button", name="Cancel the run").press("Enter")
    expect(page.locator("#head .chip")).to_have_text("cancelled")
    assert api.client.run(run.id).state == "cancelled"
    expect(page.locator("#actions")).to_have_count(0)


def test_a_run_that_used_up_its_budget_is_resumed_with_a_larger_one(
    visit: Visitor, api: Api, neurons: Dictionary
) -> None:
    run = submit(api, neurons, budget=Budget(tokens=1000))
    with database.connect(api.settings.database_url) as connection:
        assert spending.reserve(connection, run.id, Cost(900, 0))
        spending.settle(connection, run.id, Cost(900, 0), Cost(900, 0))
        spending.refuse(connection, run.id, Cost(400, 0))
        runs.halt(connection, run.id, runs.used_up("900 of 1,000 tokens spent"))
    window = visit()
    window.go(f"/runs/{run.id}")
    page = window.page
    assert "the budget is used up" in page.locator("#head").inner_text()
    assert "900 tokens" in page.locator("#spend").inner_text()
    assert page.get_by_label("Tokens: 90% spent").count() == 1
    page.get_by_role("button", name="Resume …").click()
    page.get_by_role("button", name="Resume", exact=True).click()
    expect(page.locator(".said")).to_contain_text("the budget is used up")
    page.get_by_role("button", name="Resume …").click()
    page.get_by_role("dialog").get_by_label("Tokens").fill("5000")
    page.get_by_role("button", name="Resume", exact=True).click()
    expect(page.locator("#head .chip")).to_have_text("queued")
    spent = api.client.run(run.id).usage
    assert spent is not None
    assert spent.spending is not None
    assert spent.spending.budget == Budget(tokens=5000)


def test_who_may_only_read_is_offered_no_change(visit: Visitor, api: Api, neurons: Dictionary) -> None:
    run = submit(api, neurons)
    window = visit(key=make_key(api.settings.database_url, "read"))
    window.go(f"/runs/{run.id}")
    assert window.page.get_by_role("button", name="Pause").count() == 0
    assert window.page.locator("dialog").count() == 0


def test_failures_are_shown_by_reason_with_what_they_were_about(visit: Visitor, api: Api, neurons: Dictionary) -> None:
    run = submit(api, neurons)
    with database.connect(api.settings.database_url) as connection:
        bury(connection, run, Stage.WRITE, range(3, 5), HOSTILE * 1000)
        label(connection, run, 0, "boats", (0.4, 0.2))
        fail_label(connection, run, 1, Status.UNPARSED)
        fail_label(connection, run, 2, Status.FAILED, "its judge's job failed")
        finish(connection, run, NewJob(JobKey(Stage.PUBLISH, 1), 0, 3, 3))
    window = visit(color_scheme="dark")
    window.go(f"/runs/{run.id}")
    failures = window.page.locator("#failures")
    for said in ("<script>alert(1)</script>", "unparsed", "its judge's job failed"):
        assert said in failures.inner_text()
    about = [row.get_by_role("link").all_inner_texts() for row in failures.locator("tbody tr").all()]
    assert about == [["3", "4"], ["1"], ["2"]]
    assert serious(window.page) == []


def test_the_report_says_how_sure_it_is_and_what_controls_mean(visit: Visitor, api: Api, neurons: Dictionary) -> None:
    run = submit(api, neurons)
    with database.connect(api.settings.database_url) as connection:
        for feature, llm in ((0, 0.6), (1, -0.2)):
            label(connection, run, feature, "boats", (0.4, llm))
    do_all(api)
    made = report(api, run)
    high = made.controls[0].model_copy(
        update={"contains_chance": False, "rate": made.controls[0].rate.model_copy(update={"value": 0.5, "low": 0.4})}
    )
    window = visit()
    window.go(f"/runs/{run.id}")
    found = window.page.locator("#report")
    assert "80% [58%, 92%]" in found.inner_text()
    assert "+0.37 [+0.26, +0.48]" in found.inner_text()
    found.get_by_text("Every figure").click()
    assert "not scored: 3 unparsed, 1 unreachable" in found.inner_text()
    assert "The interval holds 1/3" in found.inner_text()
    assert found.get_by_role("link", name="unparsed").get_attribute("href") == (
        f"/dictionaries/{neurons.id}?run_id={run.id}&status=unparsed"
    )
    assert found.get_by_role("link", name="412").get_attribute("href") == f"/dictionaries/{neurons.id}/features/412"
    report(api, run, controls=[high])
    window.go(f"/runs/{run.id}")
    assert "Above 1/3: wrong descriptions win more" in window.page.locator("#report").inner_text()
    for scheme in ("light", "dark"):
        window.page.emulate_media(color_scheme=scheme)
        assert serious(window.page) == []


def test_a_failed_run_and_an_empty_one_are_pages_that_help(visit: Visitor, api: Api, neurons: Dictionary) -> None:
    run = submit(api, neurons)
    with database.connect(api.settings.database_url) as connection:
        job = jobs.claim(connection, [Stage.INGEST], owner="test", lease_s=60)
        assert job is not None
        jobs.fail(connection, job, reason=f"BadWeights: {HOSTILE}", final=True)
    window = visit(java_script_enabled=False)
    window.go(f"/runs/{run.id}")
    assert "BadWeights: <script>alert(1)</script>" in window.page.get_by_role("alert").inner_text()
    assert "Labels that were there before are untouched" in window.page.locator("main").inner_text()
    empty = submit(api, neurons, features="alive")
    with database.connect(api.settings.database_url) as connection:
        runs.set_n_features(connection, empty.id, 0)
    window.go(f"/runs/{empty.id}")
    assert "holds no feature of this dictionary" in window.page.locator("main").inner_text()


@pytest.mark.parametrize("options", [{"viewport": NARROW}, {"viewport": NARROW, "java_script_enabled": False}])
def test_nothing_is_wider_than_a_narrow_screen(
    visit: Visitor, api: Api, neurons: Dictionary, options: dict[str, object]
) -> None:
    run = submit(api, neurons)
    report(api, run)
    do_all(api)
    window = visit(**options)
    for path in ("/runs", f"/runs/{run.id}"):
        window.go(path)
        main = window.page.locator("main").bounding_box()
        assert main is not None
        assert main["width"] <= NARROW["width"]


def test_what_is_not_a_run_is_not_found(visit: Visitor, api: Api, neurons: Dictionary) -> None:
    window = visit()
    assert window.go(f"/runs/{neurons.id}").status == 404
    assert window.go("/runs/nonsense").status == 422
    foreign = make_key(api.settings.database_url, "read", "another")
    assert visit(key=foreign).go(f"/runs/{submit(api, neurons).id}").status == 404
