"""`make chaos`: every fault, what it cost and how fast work went on; also in build/chaos.json."""

import argparse
import json
import os
import tempfile
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.chaos.arena import open_arena
from tests.chaos.faults import FAULTS
from tests.chaos.soak import soak
from tests.chaos.trial import FULL, SHORT, Outcome, Size

RESULT = Path("build/chaos.json")
BUSY = 3.0
"""Load by core beyond which times say more of the machine than of us: three faults kept it at 2.6, two not at 4.3."""


def main() -> int:
    """Inject the faults, print the table and write it; return 1 if one of them does not end as it must."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--only", choices=sorted(FAULTS), action="append", help="one of the faults; may be repeated")
    parser.add_argument("--short", action="store_true", help="as the ordinary tests do it")
    parser.add_argument("--soak", type=float, metavar="MINUTES", help="no faults; a load for so long, memory watched")
    asked = parser.parse_args()
    console = Console(width=170)
    if asked.soak is not None:
        with arena_folder() as folder, open_arena(folder) as arena:
            return soak(arena, asked.soak, console)
    outcomes, failed = _inject(asked.only or list(FAULTS), SHORT if asked.short else FULL, console)
    console.print(table(outcomes))
    for name, why in failed.items():
        console.print(f"{name} did not end as it must: {why}", style="red", markup=False)
    return 1 if failed else 0


def _inject(names: list[str], size: Size, console: Console) -> tuple[list[Outcome], dict[str, str]]:
    outcomes: list[Outcome] = []
    failed: dict[str, str] = {}
    started = time.monotonic()
    left = list(names)
    while left:
        # One stack for all of them, and a fresh one after a failure: what that left must not be what others find.
        with arena_folder() as folder, open_arena(folder) as arena:
            while left:
                name = left.pop(0)
                console.print(f"{time.monotonic() - started:5.0f} s  {name} …", style="dim")
                try:
                    outcomes.append(FAULTS[name](arena, size))
                    if size == FULL:
                        check_added(outcomes[-1])
                except AssertionError as exc:
                    console.print(traceback.format_exc(), style="red", markup=False)
                    failed[name] = str(exc) or "an assertion without words"
                _write(outcomes, failed)
                if name in failed:
                    break
    return outcomes, failed


def check_added(outcome: Outcome) -> None:
    """Assert that a fault added no more than it may, unless the machine was too busy to tell."""
    if outcome.added_s is not None and outcome.allowed_s is not None and outcome.load <= BUSY:
        said = f"{outcome.fault} added {outcome.added_s:.1f} s; at most {outcome.allowed_s:g}"
        assert outcome.added_s <= outcome.allowed_s, said


def _write(outcomes: list[Outcome], failed: dict[str, str]) -> None:
    RESULT.parent.mkdir(exist_ok=True)
    done = {"outcomes": [outcome._asdict() for outcome in outcomes], "failed": failed}
    RESULT.write_text(json.dumps(done, indent=2) + "\n", "utf-8")


@contextmanager
def arena_folder() -> Iterator[Path]:
    """Yield a folder that the user whom Postgres runs as can pass."""
    with tempfile.TemporaryDirectory(prefix="glossarium-chaos-", ignore_cleanup_errors=True) as folder:
        os.chmod(folder, 0o711)
        yield Path(folder)


def table(outcomes: list[Outcome]) -> Table:
    """Return what came of the faults, for people."""
    shown = Table("fault", "injected", "lost", "doubled", "recovered in", "added", "of at most", "load", "seconds", "")
    for one in outcomes:
        times = ("" if s is None else f"{s:.1f} s" for s in (one.recovered_s, one.added_s, one.allowed_s))
        shown.add_row(
            one.fault,
            f"{one.injected:,}",
            str(one.lost),
            str(one.doubled),
            *times,
            f"{one.load:.1f}",
            f"{one.seconds:.0f}",
            one.detail,
        )
    return shown


if __name__ == "__main__":
    raise SystemExit(main())
