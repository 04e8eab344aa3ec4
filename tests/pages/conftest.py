"""Pages in a real browser, over a real service. Every window must come through its test without an error in it."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page

from tests.pages.browsing import Visit, find_chromium, running_browser, visiting
from tests.service.conftest import Api, api, neurons, settings, spec_of, tiny_subject  # noqa: F401

Visitor = Callable[..., Visit]


@pytest.fixture(scope="package")  # its event loop would be in the way of other tests'
def browser() -> Iterator[Browser]:
    """Yield a browser. Without one the tests of pages are left out, but not where they are what is asked for."""
    if find_chromium() is None and not os.environ.get("CI"):
        pytest.skip("no Chromium here: install Debian's package `chromium`, or name one in GLOSSARIUM_CHROMIUM")
    with running_browser() as running:
        yield running


@pytest.fixture
def visit(browser: Browser, api: Api) -> Iterator[Visitor]:  # noqa: F811
    """Return a maker of windows on the API's pages: signed in unless `key=None`, other options as Playwright's."""
    with ExitStack() as opened:
        made: list[Visit] = []

        def make(**options: Any) -> Visit:
            key = options.pop("key", api.key)
            made.append(opened.enter_context(visiting(browser, api.url, key, **options)))
            return made[-1]

        yield make
        assert [error for one in made for error in one.errors] == []


def serious(page: Page) -> list[str]:
    """Return what axe finds in a page that keeps somebody from using it."""
    found = Axe().run(page).response["violations"]
    return [
        f"{one['id']}: {one['help']} ({one['nodes'][0]['html']})"
        for one in found
        if one["impact"] in ("serious", "critical")
    ]
