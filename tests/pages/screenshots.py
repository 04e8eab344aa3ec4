"""Pictures of every page, light and dark, wide and narrow: `python -m tests.pages.screenshots [--url URL --key KEY]`.

Of a running service, or of the stack that `make demo` left behind. They go to build/screenshots; --choose NAME makes a
small one of the first screen as well, for docs/pictures.
"""

import argparse
import base64
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from playwright.sync_api import Browser

from service.stack import Stack
from tests.pages.browsing import NARROW, WIDE, running_browser, visiting
from tests.pages.tour import find_pages

OUT = Path("build/screenshots")
DEMO = Path("build/demo")
_TALLEST = 4000
_SIZES = {"1280": WIDE, "390": NARROW}
_THEMES = ("light", "dark")
_SETTLED_MS = 700  # charts are drawn, and sections that come later have come


@contextmanager
def _service(url: str | None, key: str | None) -> Iterator[tuple[str, str]]:
    """Yield where the service is and a key to it: the given one, or the demo's, which is started."""
    if url is not None and key is not None:
        yield url, key
        return
    if not DEMO.exists():
        sys.exit(f"there is no {DEMO}: run `make demo` first, or name a service: --url URL --key KEY")
    with Stack(DEMO) as stack:
        yield stack.api_url, stack.key


def take(browser: Browser, url: str, key: str, pages: dict[str, str], out: Path) -> list[Path]:
    """Take a picture of each page in each theme and width, and return where they are.

    Raises: AssertionError if a page is not there, or something goes wrong in one.
    """
    taken = []
    for theme in _THEMES:
        for width, size in _SIZES.items():
            for name, path in pages.items():
                with visiting(browser, url, key, color_scheme=theme, viewport=size) as window:
                    assert window.go(path).ok, f"{path} is not there"
                    window.page.wait_for_timeout(_SETTLED_MS)
                    height = min(_TALLEST, window.page.evaluate("document.documentElement.scrollHeight"))
                    window.page.set_viewport_size({**size, "height": max(height, size["height"])})
                    window.page.wait_for_timeout(_SETTLED_MS)
                    taken.append(out / f"{name}-{theme}-{width}.png")
                    window.page.screenshot(path=taken[-1])
                    assert not window.errors, f"{path}: {window.errors}"
    return taken


def choose(browser: Browser, url: str, key: str, path: str, to: Path) -> None:
    """Take the first screen of a page, small enough for the documentation."""
    with visiting(browser, url, key, color_scheme="light", viewport=WIDE) as window:
        window.go(path)
        window.page.wait_for_timeout(_SETTLED_MS)
        wire = window.page.context.new_cdp_session(window.page)  # Playwright itself writes no WebP
        picture = wire.send("Page.captureScreenshot", {"format": "webp", "quality": 80})
        to.with_suffix(".webp").write_bytes(base64.b64decode(picture["data"]))


def main() -> None:
    """Take them all."""
    parser = argparse.ArgumentParser(prog="python -m tests.pages.screenshots", description=__doc__)
    parser.add_argument("--url")
    parser.add_argument("--key")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--choose", action="append", default=[], metavar="NAME", help="a page to make small as well")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    with _service(asked.url, asked.key) as (url, key), running_browser() as browser:
        with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=60) as http:
            pages = find_pages(http)
        for path in take(browser, url, key, pages, asked.out):
            sys.stdout.write(f"{path}\n")
        for name in asked.choose:
            choose(browser, url, key, pages[name], asked.out / f"chosen-{name}")


if __name__ == "__main__":
    main()
