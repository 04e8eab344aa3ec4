"""Shell completion, which is typer's own: that it is there, for our commands."""

import pytest
from typer.testing import CliRunner

from service.cli import app

SCRIPTS = {"bash": "complete -o default -F", "zsh": "#compdef glossarium", "fish": "complete --command glossarium"}


def completed(shell: str, line: str) -> set[str]:
    """Return what a shell offers in the place of the last word of a line."""
    words = line.split(" ")
    asked = {"_GLOSSARIUM_COMPLETE": f"complete_{shell}", "_TYPER_COMPLETE_ARGS": line}
    if shell == "bash":
        asked |= {"COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    result = CliRunner().invoke(
        app, [], prog_name="glossarium", env={**asked, "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    )
    assert result.exit_code == 0, result.output
    return set(result.stdout.split())


@pytest.mark.parametrize("shell", SCRIPTS)
def test_a_script_is_printed_for_each_shell(shell: str) -> None:
    result = CliRunner().invoke(app, [], prog_name="glossarium", env={"_GLOSSARIUM_COMPLETE": f"source_{shell}"})
    assert result.exit_code == 0, result.output
    assert SCRIPTS[shell] in result.stdout
    assert f"_GLOSSARIUM_COMPLETE=complete_{shell}" in result.stdout


def test_commands_and_those_below_them_are_completed() -> None:
    assert completed("bash", "glossarium web") == {"webhooks"}
    assert {"schedule", "submit", "show", "status"} <= completed("bash", "glossarium s")
    assert completed("bash", "glossarium webhooks re") == {"resume", "remove"}
    assert completed("bash", "glossarium run --corp") == {"--corpus"}


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_are_told_the_same(shell: str) -> None:
    offered = completed(shell, "glossarium web")
    assert any("webhooks" in word for word in offered)
    assert not any("dictionaries" in word for word in offered)


def test_the_help_says_how_to_install_it() -> None:
    assert "--install-completion" in CliRunner().invoke(app, ["--help"], env={"COLUMNS": "120"}).stdout
