"""`glossarium backup` and `glossarium restore`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from schema.settings import load_settings
from service.folder import DataFolder

out = Console()
err = Console(stderr=True)

Data = Annotated[Path | None, typer.Option(help="The stack's data folder.", envvar="GLOSSARIUM_DATA_DIR")]


def register(app: typer.Typer) -> None:
    """Add the commands to an application."""
    app.command()(backup)
    app.command()(restore)


def backup(
    file: Annotated[Path, typer.Argument(help="The file to write; it holds the stack's secret, so keep it safe.")],
    data: Data = None,
) -> None:
    """Write the whole stack that is up on --data to one file: database, blobs and secret. It may go on working."""
    from service.backup import back_up

    settings = load_settings()
    folder = DataFolder(data or settings.data_dir)
    with err.status(f"backing up {folder.path} …"):
        made = back_up(folder, file, settings, lambda text: err.print(text, markup=False, highlight=False))
    size = file.stat().st_size / 2**20
    out.print(f"{file}: {size:.1f} MiB, {len(made.blobs)} blobs", markup=False, highlight=False, soft_wrap=True)


def restore(file: Annotated[Path, typer.Argument(help="What `backup` wrote.")], data: Data = None) -> None:
    """Make the data folder --data, which must be empty or not be there, of a backup."""
    from service.backup import restore as restore_to

    folder = DataFolder(data or load_settings().data_dir)
    with err.status(f"restoring {folder.path} …"):
        made = restore_to(file, folder)
    when = made.created_at.astimezone().strftime("%Y-%m-%d %H:%M %Z")
    out.print(
        f"{folder.path} is as it was on {when}; start it with `glossarium up --data {folder.path}`",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
