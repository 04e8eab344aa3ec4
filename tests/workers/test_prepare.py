"""What `make install` prepares is what the stack then uses."""

from pathlib import Path

import pytest

from schema.settings import load_settings
from workers import prepare
from workers.bundled import convert_bundled


def test_both_models_are_prepared_where_they_are_looked_for(
    cache_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert prepare.main() == 0
    subject, llm = map(Path, capsys.readouterr().out.splitlines()[-2:])
    assert subject == convert_bundled(load_settings().cache_dir)
    assert (subject / "model.safetensors").is_file()
    assert llm.parent == cache_dir / "llm"
    assert llm.suffix == ".gguf"
