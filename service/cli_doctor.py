"""`glossarium doctor`."""

import typer
from pydantic import SecretStr
from rich.markup import escape

from schema.settings import Settings, load_settings
from service import render
from service.doctor import Finding, examine
from service.folder import DataFolder, StackState
from service.terminal import Api, AsJson, Data, data_folder, out, print_json

commands = typer.Typer()
_MARKS = {"ok": "[green]ok[/green]     ", "warning": "[yellow]warning[/yellow]", "failed": "[red]failed[/red] "}


@commands.command()
def doctor(data: Data = None, api: Api = None, as_json: AsJson = False) -> None:
    """Check a deployment with the settings of this environment, and say what is wrong; exit code 1 if anything is.

    Of an embedded stack that is up on --data, its own servers are looked at.
    """
    state = data_folder(data).read_state()
    settings = load_settings() if state is None else settings_of(state, data_folder(data))
    found: list[Finding] = []
    for finding in examine(settings, api or (state.api_url if state else None)):
        found.append(finding)
        if not as_json:
            _show(finding)
    if as_json:
        print_json(found)
    if any(finding.state == "failed" for finding in found):
        raise typer.Exit(1)


def settings_of(state: StackState, folder: DataFolder) -> Settings:
    """Return the settings that the processes of an embedded stack have."""
    settings = load_settings()
    given = settings.model_fields_set
    where = state.model_dump(include={"database_url", "redis_url", "llm_base_url", "embeddings_base_url"})
    own: dict[str, object] = {name: url for name, url in where.items() if name not in given}
    if "secret" not in given:
        own["secret"] = SecretStr(folder.secret())
    return settings.model_copy(update={**own, "data_dir": folder.path, "llm_embedded": "llm_base_url" in own})


def _show(finding: Finding) -> None:
    said = escape(render.printable(f"{finding.check}: {finding.said}"))
    out.print(f"{_MARKS[finding.state]} {said}", highlight=False, soft_wrap=True)
    if finding.advice is not None:
        out.print(f"        → {escape(render.printable(finding.advice))}", highlight=False, soft_wrap=True)
