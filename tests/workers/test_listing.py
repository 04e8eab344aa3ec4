"""Which dictionaries lie below a folder or in a release."""

from pathlib import Path

import pytest

from workers.formats.hub import choose_folders
from workers.formats.listing import list_dictionaries
from workers.formats.readers import FOLDERS

FORMATS = [reader.files for reader in FOLDERS]
PARTS = ("cfg.json", "sae_weights.safetensors", "params.npz", "hyperparams.json", "checkpoints/final.safetensors")


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def listed(folder: Path) -> list[str]:
    return [one.name for one in list_dictionaries(str(folder))]


def test_dictionaries_are_listed_by_layer_wherever_they_lie(tmp_path: Path) -> None:
    touch(tmp_path / "layer_10", "cfg.json", "sae_weights.safetensors")
    touch(tmp_path / "layer_9", "cfg.json", "sae_weights.safetensors", "sparsity.safetensors")
    touch(tmp_path / "deep" / "layer_3" / "width_16k", "params.npz")
    touch(tmp_path / "llama" / "L1", "hyperparams.json", "checkpoints/final.safetensors")
    assert listed(tmp_path) == ["deep/layer_3/width_16k", "layer_9", "layer_10", "llama/L1"]
    paths = [Path(one.path) for one in list_dictionaries(str(tmp_path))]
    assert paths == [tmp_path / name for name in listed(tmp_path)]


def test_a_dictionary_itself_and_what_holds_none_list_nothing(tmp_path: Path) -> None:
    touch(tmp_path / "one", "cfg.json", "sae_weights.safetensors")
    touch(tmp_path / "part", "cfg.json")
    touch(tmp_path / "other", "a.txt", "deep/b.txt")
    for name in ("one", "part", "other", "one/cfg.json", "missing"):
        assert listed(tmp_path / name) == []


def test_a_part_of_a_dictionary_is_listed_so_that_it_is_named(tmp_path: Path) -> None:
    touch(tmp_path / "layer_1", "cfg.json", "sae_weights.safetensors")
    touch(tmp_path / "layer_2", "sae_weights.safetensors")
    assert listed(tmp_path) == ["layer_1", "layer_2"]


def test_models_hidden_folders_and_links_are_passed_over(tmp_path: Path) -> None:
    touch(tmp_path / "layer_1", "cfg.json", "sae_weights.safetensors")
    touch(tmp_path / "model", "config.json")
    touch(tmp_path / ".cache" / "layer_1", "cfg.json", "sae_weights.safetensors")
    (tmp_path / "again").symlink_to(tmp_path)
    assert listed(tmp_path) == ["layer_1"]


def test_what_lies_inside_a_dictionary_is_a_part_of_it(tmp_path: Path) -> None:
    touch(tmp_path / "run", "ae.pt", "config.json", "old/ae.pt")
    assert listed(tmp_path) == ["run"]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("", ["a", "b/c"]),
        ("b", ["b/c"]),
        ("a", []),
        ("b/c/params.npz", []),
        ("docs", []),
    ],
)
def test_folders_of_a_release_are_chosen_by_their_files(path: str, expected: list[str]) -> None:
    files = ["README.md", "config.json", "a/cfg.json", "a/sae_weights.safetensors", "a/old/cfg.json", "b/c/params.npz"]
    assert choose_folders(path, [*files, "docs/x.txt"], FORMATS, PARTS) == expected
