"""What a page weighs and how fast it is seen in a browser: `python -m tests.pages.measuring --url URL --key KEY`."""

import argparse
import statistics
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import httpx
from playwright.sync_api import CDPSession, Page

from tests.pages.browsing import running_browser, visiting
from tests.pages.tour import find_pages

_SHIFT = """() => new Promise((done) => {
  let sum = 0;
  new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) if (!entry.hadRecentInput) sum += entry.value;
  }).observe({ type: "layout-shift", buffered: true });
  setTimeout(() => done(sum), 200);
})"""
_PAINT = "() => performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? null"


class Load(NamedTuple):
    """How a page came to a browser that knew nothing of it. `shift` is the sum of layout shifts; 0 is none at all."""

    n_requests: int
    n_bytes: int
    first_paint_ms: float
    shift: float


def measure(page: Page, go: Callable[[], object]) -> Load:
    """Load a page in a window with an empty cache and return what came over the wire, heads and packing included."""
    wire = page.context.new_cdp_session(page)
    sizes = _sizes(wire)
    go()
    page.wait_for_load_state("networkidle")
    shift, paint = page.evaluate(_SHIFT), page.evaluate(_PAINT)
    wire.detach()
    return Load(len(sizes), sum(sizes), paint, shift)


def _sizes(wire: CDPSession) -> list[int]:
    sizes: list[int] = []

    def note(event: dict[str, Any]) -> None:
        sizes.append(int(event["encodedDataLength"]))

    wire.on("Network.loadingFinished", note)
    wire.send("Network.enable")
    wire.send("Network.setCacheDisabled", {"cacheDisabled": True})
    return sizes


def answer_ms(http: httpx.Client, path: str, n: int) -> list[float]:
    """Return how long the server took over each of n requests for a page, in milliseconds, fastest first."""
    took = []
    for _ in range(n):
        response = http.get(path, headers={"Accept": "text/html"})
        took.append(response.elapsed.total_seconds() * 1000)
    return sorted(took)


def main() -> None:
    """Print a line for each page of a running service."""
    parser = argparse.ArgumentParser(prog="python -m tests.pages.measuring", description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--key", required=True)
    parser.add_argument("-n", type=int, default=30, help="requests a page, for the server's time")
    asked = parser.parse_args()
    headers = {"Authorization": f"Bearer {asked.key}"}
    write = sys.stdout.write
    write(f"{'page':<22} {'requests':>8} {'kB':>6} {'first paint':>12} {'shift':>6} {'server p50':>11} {'p95':>8}\n")
    with running_browser() as browser, httpx.Client(base_url=asked.url, headers=headers, timeout=60) as http:
        for name, path in find_pages(http).items():
            with visiting(browser, asked.url, asked.key) as window:
                load = measure(window.page, lambda window=window, path=path: window.go(path))
            took = answer_ms(http, path, asked.n)
            write(
                f"{name:<22} {load.n_requests:>8} {load.n_bytes / 1000:>6.0f} {load.first_paint_ms:>9.0f} ms "
                f"{load.shift:>6.3f} {statistics.median(took):>8.0f} ms {took[int(0.95 * (len(took) - 1))]:>5.0f} ms\n"
            )


if __name__ == "__main__":
    main()
