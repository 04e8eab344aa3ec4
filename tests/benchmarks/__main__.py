"""`make bench`: every figure, both sides, the ratio and its target; also in build/bench.json."""

import argparse
import json
from collections.abc import Callable, Iterator
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.benchmarks import (
    acting,
    changing,
    claiming,
    converting,
    exporting,
    paying,
    reading,
    steering,
    storing,
    uploading,
)
from tests.benchmarks.measure import Row

_MET = {True: "yes", False: "NO", None: ""}
RESULT = Path("build/bench.json")
_ALL: dict[str, Callable[[], Iterator[Row]]] = {
    "exemplars": reading.exemplar_pass,
    "memory": reading.exemplar_memory,
    "many_features": reading.many_features,
    "vocabulary": acting.vocabulary,
    "token_change": changing.exact,
    "sequential": changing.sequential,
    "linear": changing.linear,
    "steering": steering.steering,
    "batches": acting.batches,
    "subsets": acting.subsets,
    "evidence_size": storing.evidence_size,
    "claims": claiming.claims,
    "accounts": paying.accounts,
    "converting": converting.converting,
    "exporting": exporting.exporting,
    "uploading": uploading.uploading,
}


def main() -> None:
    """Measure, print the table and write it."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--only", choices=sorted(_ALL), action="append", help="one of the figures; may be repeated")
    chosen = parser.parse_args().only or list(_ALL)
    console = Console(width=140)
    rows: list[Row] = []
    for name in chosen:
        console.print(f"measuring {name} …", style="dim")
        rows += _ALL[name]()
        # After each, as all take half an hour: what is measured stays.
        RESULT.parent.mkdir(exist_ok=True)
        RESULT.write_text(json.dumps([row._asdict() for row in rows], indent=2) + "\n", "utf-8")
    console.print(_table(rows))


def _table(rows: list[Row]) -> Table:
    table = Table("what", "ours", "other", "unit", "ratio", "target", "met", "the ratio is")
    for row in rows:
        figures = (f"{row.ours:.4g}", f"{row.other:.4g}", row.unit, f"{row.ratio:.2f}", row.target)
        table.add_row(row.name, *figures, _MET[row.met], row.meaning)
    return table


if __name__ == "__main__":
    main()
