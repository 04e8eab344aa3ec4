"""What an audit of the pinned packages finds, from pip-audit's own form of answer."""

from typing import Any

from tests.audit import judge

SOUND: dict[str, Any] = {"name": "sound", "version": "1.0", "vulns": []}
UNKNOWN: dict[str, Any] = {"name": "own", "skip_reason": "Dependency not found on PyPI"}


def vulnerable(*fixed_in: str) -> dict[str, Any]:
    return {"name": "weak", "version": "2.0", "vulns": [{"id": "PYSEC-1", "fix_versions": list(fixed_in)}]}


def test_a_vulnerability_is_a_failure() -> None:
    assert judge([SOUND, vulnerable("2.1", "3.0")]) == (
        ["weak 2.0: PYSEC-1, fixed in 2.1, 3.0"],
        "2 of 2 pinned packages audited",
    )
    assert judge([vulnerable()])[0] == ["weak 2.0: PYSEC-1, fixed in nothing yet"]


def test_what_is_not_known_among_others_is_a_failure() -> None:
    assert judge([SOUND, UNKNOWN]) == (
        ["own: not audited: Dependency not found on PyPI"],
        "1 of 2 pinned packages audited",
    )


def test_where_nothing_is_known_nothing_was_audited() -> None:
    failures, note = judge([UNKNOWN, UNKNOWN])
    assert failures == []
    assert note == "not audited: the service of vulnerabilities knows none of the 2 packages that are pinned"


def test_sound_packages_pass() -> None:
    assert judge([SOUND, SOUND]) == ([], "2 of 2 pinned packages audited")
