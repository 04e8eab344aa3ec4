"""`glossarium submit` of one dictionary: all of it, or nothing."""

import json
from pathlib import Path

import numpy as np
import torch

from tests.service.conftest import D_MODEL, MAX_UPLOAD, Api
from tests.service.test_cli import Glossarium, at_api, glossarium

__all__ = ["at_api", "glossarium"]


def test_what_authors_call_their_features_comes_as_labels_to_be_tested(
    at_api: Glossarium, api: Api, tmp_path: Path, tiny_subject: str
) -> None:
    folder = tmp_path / "concepts"
    folder.mkdir()
    torch.save(torch.eye(D_MODEL)[:3], folder / "weight.pt")
    concepts = ["names of\nrivers", "", "boats \u202eand\x00 ships"]
    rows = [{"concept_id": i, "concept": concept} for i, concept in enumerate(concepts)]
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = at_api("submit", str(folder), "--subject", tiny_subject, "--site", "resid_post.1")
    assert result.exit_code == 0, result.output
    assert "2 labels of its authors" in result.output
    (made,) = api.client.dictionaries()
    found = {i: api.client.feature(made.id, i).descriptions for i in range(3)}
    assert {i: [(one.method, one.text, one.parameters["origin"]) for one in of] for i, of in found.items()} == {
        0: [("imported", "names of rivers", "axbench")],
        1: [],
        2: [("imported", "boats and ships", "axbench")],
    }


def test_a_dictionary_whose_weights_are_refused_is_not_left_behind(
    at_api: Glossarium, api: Api, tmp_path: Path, tiny_subject: str
) -> None:
    np.save(tmp_path / "rows.npy", np.ones((MAX_UPLOAD // D_MODEL, D_MODEL), np.float32))
    before = api.files()
    result = at_api("submit", str(tmp_path / "rows.npy"), "--subject", tiny_subject, "--site", "resid_post.1")
    assert result.exit_code == 1
    assert "the limit is 100,000 bytes" in result.output
    assert list(api.client.dictionaries()) == []
    assert api.files() == before
