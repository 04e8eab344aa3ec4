"""Licences: what is installed may come with us, and what may not is refused."""

from importlib.metadata import Distribution, distributions
from pathlib import Path

import pytest

from tests.licences import Licence, licence_of, refused


def test_everything_that_is_installed_may_come_with_us() -> None:
    assert refused(licence_of(one) for one in distributions() if one.name.lower() != "glossarium") == []


@pytest.mark.parametrize(
    "said",
    [
        "", "UNKNOWN", "AGPL-3.0-only", "GPL-3.0-or-later", "GNU General Public License v3 (GPLv3)",
        "Other/Proprietary License", "MIT AND GPL-2.0-only", "MIT License; GNU Affero General Public License v3",
    ],
)  # fmt: skip
def test_what_is_not_allowed_or_says_nothing_is_refused(said: str) -> None:
    assert refused([Licence("some", "1", said)])


@pytest.mark.parametrize(
    "said",
    ["MIT", "Apache-2.0 OR GPL-2.0-only", "BSD-3-Clause AND 0BSD AND MIT AND Zlib AND CC0-1.0", "LGPL-3.0-only",
     "GNU Lesser General Public License v3 (LGPLv3)", "Mozilla Public License 2.0 (MPL 2.0)"],
)  # fmt: skip
def test_what_is_allowed_is_not(said: str) -> None:
    assert refused([Licence("some", "1", said)]) == []


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("License-Expression: MIT\nClassifier: License :: OSI Approved :: BSD License", "MIT"),
        ("Classifier: License :: OSI Approved\nClassifier: License :: OSI Approved :: BSD License", "BSD License"),
        ("License: Apache 2.0", "Apache 2.0"),
        ("Summary: says nothing", ""),
    ],
)
def test_a_licence_is_read_from_the_most_exact_of_its_places(tmp_path: Path, lines: str, said: str) -> None:
    folder = tmp_path / "some-1.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.4\nName: some\nVersion: 1\n{lines}\n\n")
    assert licence_of(Distribution.at(folder)) == Licence("some", "1", said)


def test_a_licence_that_is_only_a_file_is_read_there(tmp_path: Path) -> None:
    folder = tmp_path / "some-1.dist-info"
    (folder / "licenses").mkdir(parents=True)
    (folder / "METADATA").write_text("Metadata-Version: 2.4\nName: some\nVersion: 1\nLicense-File: LICENSE\n\n")
    (folder / "licenses" / "LICENSE").write_text("MIT License\n\nCopyright (c) 2023 Somebody\n")
    assert licence_of(Distribution.at(folder)).allowed
