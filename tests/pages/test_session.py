"""Signing in and out, pages for who has no key, and where the cookie is good for nothing."""

import re

import pytest

from service.deps import KEY_COOKIE
from tests.pages.conftest import Visitor, serious
from tests.service.conftest import Api, make_key


def test_who_has_no_key_is_asked_for_one_and_goes_on_where_they_were(visit: Visitor, api: Api) -> None:
    window = visit(key=None)
    assert window.go("/?from=mail").status == 401
    assert "Sign in" in window.page.title()
    assert serious(window.page) == []
    window.page.get_by_label("API key").fill(api.key)
    window.page.get_by_role("button", name="Sign in").click()
    window.page.wait_for_url(f"{api.url}/?from=mail")
    (cookie,) = window.page.context.cookies()
    assert (cookie["name"], cookie["httpOnly"], cookie["sameSite"]) == (KEY_COOKIE, True, "Lax")
    window.page.get_by_role("button", name="Sign out").click()
    window.page.wait_for_url(f"{api.url}/sign-in")
    assert window.page.context.cookies() == []


def test_a_key_that_is_not_known_says_so(visit: Visitor) -> None:
    window = visit(key=None)
    window.go("/sign-in")
    window.page.get_by_label("API key").fill("glk_nonsense")
    window.page.get_by_role("button", name="Sign in").click()
    assert "key" in window.page.get_by_role("alert").inner_text()
    assert window.page.context.cookies() == []


def test_a_link_with_a_key_signs_in_and_leaves_no_trace_of_it(visit: Visitor, api: Api) -> None:
    window = visit(key=None)
    window.go(f"/sign-in#{api.key}")
    window.page.wait_for_url(f"{api.url}/")
    window.page.go_back()
    assert api.key not in window.page.url


def test_sign_in_leads_nowhere_else(api: Api) -> None:
    with api.with_key(None) as http:
        for target in ("https://example.com/", "//example.com", "/\\example.com", "javascript:alert(1)"):
            answer = http.post("/sign-in", data={"key": api.key, "next": target})
            assert (answer.status_code, answer.headers["location"]) == (303, "/")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Sec-Fetch-Site": "same-origin"}, 422),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "none"}, 403),
        ({"Origin": "https://example.com"}, 403),
        ({}, 403),
    ],
)
def test_the_cookie_changes_nothing_for_other_sites(api: Api, headers: dict[str, str], status: int) -> None:
    with api.with_key(None) as http:
        http.cookies.set(KEY_COOKIE, api.key)
        assert http.get("/v1/runs").status_code == 200
        assert http.post("/v1/runs", json={}, headers=headers).status_code == status
        assert http.post("/v1/runs", json={}, headers={"Origin": api.url}).status_code == 422


def test_pages_allow_nothing_inline_and_nothing_from_elsewhere(api: Api) -> None:
    answer = api.http.get("/", headers={"Accept": "text/html"})
    policy = answer.headers["content-security-policy"]
    assert "unsafe" not in policy
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
    assert not re.search(r"<script(?! [^>]*src=)|\bstyle=|\bon[a-z]+=", answer.text)


def test_what_is_not_there_has_a_page_that_helps(visit: Visitor) -> None:
    window = visit()
    assert window.go("/nothing/here").status == 404
    assert window.page.get_by_role("alert").is_visible()
    assert window.page.get_by_role("link", name="All dictionaries").is_visible()


def test_a_key_that_was_revoked_is_asked_for_again(visit: Visitor, api: Api) -> None:
    key = make_key(api.settings.database_url, "read")
    window = visit(key=key)
    assert window.go("/").status == 200
    api.client.revoke_key(next(one.id for one in api.client.api_keys() if one.name == "read of default"))
    assert window.go("/").status == 401
    assert "revoked" in window.page.get_by_role("alert").inner_text()


def test_the_theme_is_kept(visit: Visitor) -> None:
    window = visit(color_scheme="light")
    window.go("/")
    paper = "getComputedStyle(document.body).backgroundColor"
    light = window.page.evaluate(paper)
    switch = window.page.get_by_role("button", name="Theme: system")
    switch.click()
    assert window.page.evaluate(paper) == light
    window.page.get_by_role("button", name="Theme: light").click()
    assert window.page.evaluate(paper) != light
    window.page.reload()
    assert window.page.evaluate(paper) != light
