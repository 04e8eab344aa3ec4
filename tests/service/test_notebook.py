"""The notebook of the documentation, run from top to bottom against an embedded stack."""

import json
from pathlib import Path

import pytest

from service.stack import Stack
from tests.llm_server import LLMServer

NOTEBOOK = Path(__file__).parents[2] / "docs" / "client.ipynb"


def test_it_is_kept_without_what_it_printed() -> None:
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert [(cell["outputs"], cell["execution_count"]) for cell in code] == [([], None)] * len(code)


@pytest.mark.timeout(900)
@pytest.mark.filterwarnings("default")  # of what runs notebooks, not of ours
def test_it_runs_from_top_to_bottom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    for package in ("ipykernel", "pandas"):
        pytest.importorskip(package)
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    with LLMServer() as llm:
        for name in ("LLM_BASE_URL", "EMBEDDINGS_BASE_URL"):
            monkeypatch.setenv(name, llm.base_url)
        with Stack(tmp_path / "data") as stack:
            monkeypatch.setenv("GLOSSARIUM_API_URL", stack.api_url)
            monkeypatch.setenv("GLOSSARIUM_DATA_DIR", str(tmp_path / "data"))
            nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    printed = {cell["id"]: _text(cell["outputs"]) for cell in notebook.cells if cell["cell_type"] == "code"}
    assert "ready=True" in printed["connect"]
    assert printed["run"].endswith("'done'")
    assert printed["labels"].count("lexical") == 4
    assert printed["report"].startswith("(4, ")


def _text(outputs: list[dict[str, dict[str, str]]]) -> str:
    """Return the last value that a cell showed."""
    return [output["data"]["text/plain"] for output in outputs if "data" in output][-1]
