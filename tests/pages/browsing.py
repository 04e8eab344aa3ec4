"""A real browser for tests and screenshots: headless Chromium, signed in, strict about what goes wrong in it."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Response, sync_playwright

from service.deps import KEY_COOKIE

_NAMES = ("chromium", "chromium-browser", "google-chrome")
WIDE, NARROW = {"width": 1280, "height": 900}, {"width": 390, "height": 844}


def find_chromium() -> str | None:
    """Return the path of the browser: `GLOSSARIUM_CHROMIUM`, or the first on the PATH; None if there is none."""
    return os.environ.get("GLOSSARIUM_CHROMIUM") or next(filter(None, map(shutil.which, _NAMES)), None)


@contextmanager
def running_browser() -> Iterator[Browser]:
    """Lend a headless browser."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium())
        try:
            yield browser
        finally:
            browser.close()


class Visit(NamedTuple):
    """A browser's window on a running service, and what went wrong in it: errors of scripts, policies and servers."""

    page: Page
    url: str
    errors: list[str]

    def go(self, path: str) -> Response:
        """Go to a page and return the answer."""
        answer = self.page.goto(self.url + path)
        assert answer is not None
        return answer


@contextmanager
def visiting(browser: Browser, url: str, key: str | None, **options: Any) -> Iterator[Visit]:
    """Lend a window of a new profile, signed in with a key; `options` as those of Playwright's `new_context`."""
    context: BrowserContext = browser.new_context(**{"viewport": WIDE, "locale": "en-GB", **options})
    context.set_default_timeout(20_000)
    if key is not None:
        context.add_cookies([{"name": KEY_COOKIE, "value": key, "url": url, "httpOnly": True, "sameSite": "Lax"}])
    page, errors = context.new_page(), list[str]()
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: _note(message, errors))
    try:
        yield Visit(page, url, errors)
    finally:
        context.close()


def _note(message: ConsoleMessage, errors: list[str]) -> None:
    # That a page was not found, or wants a key, is what some tests are about; what it says is looked at by them.
    if message.type == "error" and "status of 4" not in message.text:
        errors.append(message.text)
