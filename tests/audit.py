"""Known vulnerabilities of what is pinned: `python -m tests.audit PIP_AUDIT` ends with 1 if there are any.

It asks a service on the internet. Where that does not answer, or knows none of what is pinned, as a mirror without
advisories, nothing was looked at: that is said, and is no failure. Where it knows some, it must know all.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

PINNED = Path("constraints.txt")
_TIMEOUT_S = 600


def main() -> int:
    """Print what was found, and return 1 where that is a failure."""
    command = [sys.argv[1], "--requirement", str(PINNED), "--no-deps", "--disable-pip", "--format", "json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_TIMEOUT_S)
    try:
        dependencies = json.loads(done.stdout)["dependencies"]
    except ValueError:
        said = done.stderr.strip().splitlines()
        sys.stdout.write(f"not audited: pip-audit ended with {done.returncode}: {said[-1] if said else 'nothing'}\n")
        return 0
    failures, note = judge(dependencies)
    sys.stdout.write("\n".join((*failures, note, "")))
    return 1 if failures else 0


def judge(dependencies: Sequence[dict[str, Any]]) -> tuple[list[str], str]:
    """Return what must not be, a line each, and how much was looked at.

    dependencies:  as pip-audit's JSON has them: with `vulns`, or with a `skip_reason`.
    """
    skipped = [one for one in dependencies if "skip_reason" in one]
    n = len(dependencies)
    if len(skipped) == n:
        return [], f"not audited: the service of vulnerabilities knows none of the {n} packages that are pinned"
    failures = [
        f"{one['name']} {one['version']}: {found['id']}, fixed in {', '.join(found['fix_versions']) or 'nothing yet'}"
        for one in dependencies
        for found in one.get("vulns", ())
    ]
    failures += [f"{one['name']}: not audited: {one['skip_reason']}" for one in skipped]
    return failures, f"{n - len(skipped)} of {n} pinned packages audited"


if __name__ == "__main__":
    sys.exit(main())
