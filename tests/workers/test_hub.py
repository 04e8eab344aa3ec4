"""References to a hub: what is fetched, which commit it is, and what is said where it can't be had."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from schema.errors import BadWeights, InvalidInput
from tests.dictionary_files import saelens_config, save_saelens
from tests.hub_server import COMMIT, GATED, Hub, serving
from tests.tiny import D_MODEL, make_subject
from workers.formats.hub import Reference, choose_files, parse, short_name

F = 16
NAMES = ("cfg.json", "sae_weights.safetensors", "params.npz")
Submit = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """Serve a release of two dictionaries, beside files that nobody needs, and a gated one."""
    folder = tmp_path_factory.mktemp("hub")
    for layer in (1, 2):
        place = folder / "org" / "release" / f"layer_{layer}"
        tensors = {"W_enc": torch.ones(D_MODEL, F), "b_enc": torch.ones(F), "W_dec": torch.ones(F, D_MODEL)}
        tensors["b_dec"] = torch.ones(D_MODEL)
        save_saelens(place, saelens_config(D_MODEL, F, f"blocks.{layer}.hook_resid_post"), tensors)
        (place / "sparsity.safetensors").write_bytes(bytes(1000))
    (folder / "org" / "release" / "README.md").write_text("a release")
    with serving(folder) as hub:
        yield hub


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a tiny subject."""
    return make_subject(tmp_path_factory.mktemp("subject") / "tiny")


@pytest.fixture
def submit(subject: Path, tmp_path: Path) -> Submit:
    """Return what converts a reference in a process of its own, which asks the hub at a URL."""

    def run(reference: str, url: str, *flags: str, **environment: str) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-m", "workers.formats", reference, "--subject", str(subject), *flags]
        surroundings = {**os.environ, "HF_ENDPOINT": url, "HF_HOME": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "0"}
        return subprocess.run(
            [*argv, "--out", str(tmp_path / "out")],
            capture_output=True,
            text=True,
            check=False,
            env=surroundings | {"HF_HUB_DISABLE_XET": "1"} | environment,
        )

    return run


def test_a_reference_is_resolved_to_a_commit_and_fetched_once(hub: Hub, submit: Submit, tmp_path: Path) -> None:
    hub.asked.clear()
    done = submit("hf:org/release/layer_2", hub.url)
    assert done.returncode == 0, done.stderr
    assert f"at hf:org/release/layer_2@{COMMIT}: {F} features at resid_post.2" in done.stdout
    assert json.loads((tmp_path / "out" / "spec.json").read_text())["name"] == "release/layer_2"
    fetched = {asked.rpartition("/")[2] for asked in hub.asked if "/resolve/" in asked}
    assert fetched == {"cfg.json", "sae_weights.safetensors"}
    assert not any("layer_1" in asked for asked in hub.asked)
    hub.asked.clear()
    assert submit(f"hf:org/release/layer_2@{COMMIT}", hub.url).returncode == 0
    assert not any("GET" in asked and "/resolve/" in asked for asked in hub.asked)


def test_what_is_cached_is_used_where_no_hub_answers(hub: Hub, submit: Submit) -> None:
    assert submit("hf:org/release/layer_1", hub.url).returncode == 0
    done = submit(f"hf:org/release/layer_1@{COMMIT}", "http://127.0.0.1:1")
    assert done.returncode == 0, done.stderr
    assert f"@{COMMIT}" in done.stdout


@pytest.mark.parametrize(
    ("reference", "code", "said"),
    [
        ("hf:org/nothing/layer_1", 2, "no such repository, or it is private"),
        ("hf:org/release/layer_1@v9", 2, "the repository has no revision 'v9'"),
        ("hf:org/release/layer_9", 2, "has no such path"),
        ("hf:org/release", 2, "it holds 2 dictionaries; name one of layer_1, layer_2"),
        (f"hf:{GATED}/layer_1", 2, "it is gated: ask for access"),
        ("hf:org", 2, "must be hf:ORG/REPO/PATH"),
        ("hf:org/release/../../etc", 2, "must be hf:ORG/REPO/PATH"),
    ],
)
def test_what_can_not_be_had_is_named(reference: str, code: int, said: str, hub: Hub, submit: Submit) -> None:
    done = submit(reference, hub.url)
    assert done.returncode == code
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("environment", [{}, {"HF_HUB_OFFLINE": "1"}])
def test_without_a_hub_the_error_says_so(environment: dict[str, str], submit: Submit, tmp_path: Path) -> None:
    done = submit("hf:org/release/layer_1", "http://127.0.0.1:1", **environment)
    assert done.returncode == 1
    assert "the hub at http://127.0.0.1:1 can't be reached and nothing of it is cached" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_release_lists_its_dictionaries_at_one_commit(hub: Hub, submit: Submit, tmp_path: Path) -> None:
    listing = tmp_path / "out" / "listing.json"
    done = submit("hf:org/release", hub.url, "--list")
    assert (done.returncode, done.stdout) == (0, "2 dictionaries\n"), done.stderr
    layers = [{"name": f"layer_{n}", "path": f"hf:org/release/layer_{n}@{COMMIT}"} for n in (1, 2)]
    assert json.loads(listing.read_text()) == layers
    assert not (tmp_path / "out" / "spec.json").exists()
    done = submit(layers[0]["path"], hub.url, "--list")
    assert "SAELens" in done.stdout
    assert not listing.exists()
    assert submit(layers[0]["path"], "http://127.0.0.1:1", "--list").returncode == 0  # it is cached
    assert submit(f"hf:{GATED}", hub.url, "--list").returncode == 2


def test_references_have_a_repository_a_path_and_a_revision() -> None:
    assert parse("hf:org/name") == Reference("org/name", "", None)
    assert parse("hf:org/name/a/b.npz@0a1b") == Reference("org/name", "a/b.npz", "0a1b")
    assert parse("hf:org/name/a/@refs/pr/3") == Reference("org/name", "a", "refs/pr/3")
    assert short_name("hf:org/name/a/b@main") == "name/a/b"
    for wrong in ("hf:", "hf:org", "hf:org/../x", "hf:org/name/../x", "hf:o r/name"):
        with pytest.raises(InvalidInput, match="must be hf:ORG/REPO/PATH"):
            parse(wrong)


def test_only_files_of_dictionaries_are_chosen() -> None:
    listed = ["README.md", "a/cfg.json", "a/sae_weights.safetensors", "a/optimizer.bin", "b/params.npz", "c/x.txt"]
    assert choose_files(Reference("o/n", "a", None), listed, NAMES) == ["a/cfg.json", "a/sae_weights.safetensors"]
    assert choose_files(Reference("o/n", "b/params.npz", None), listed, NAMES)[0] == "b/params.npz"
    with pytest.raises(BadWeights, match="it holds 2 dictionaries; name one of a, b"):
        choose_files(Reference("o/n", "", None), listed, NAMES)
    with pytest.raises(BadWeights, match="no such path, or nothing there"):
        choose_files(Reference("o/n", "c", None), listed, NAMES)
