"""`glossarium backup` and `glossarium restore`."""

from pathlib import Path
from typing import Annotated

import typer

from schema.settings import load_settings
from service.terminal import Data, data_folder, err, say

commands = typer.Typer()


@commands.command()
def backup(
    file: Annotated[Path, typer.Argument(help="The file to write; it holds the stack's secret, so keep it safe.")],
    data: Data = None,
) -> None:
    """Write the whole stack that is up on --data to one file: database, blobs and secret. It may go on working."""
    from service.backup import back_up

    folder = data_folder(data)
    with err.status(f"backing up {folder.path} …"):
        made = back_up(folder, file, load_settings(), lambda text: err.print(text, markup=False, highlight=False))
    size = file.stat().st_size / 2**20
    say(f"{file}: {size:.1f} MiB, {len(made.blobs)} blobs")


@commands.command()
def restore(file: Annotated[Path, typer.Argument(help="What `backup` wrote.")], data: Data = None) -> None:
    """Make the data folder --data, which must be empty or not be there, of a backup."""
    from service.backup import restore as restore_to

    folder = data_folder(data)
    with err.status(f"restoring {folder.path} …"):
        made = restore_to(file, folder)
    when = made.created_at.astimezone().strftime("%Y-%m-%d %H:%M %Z")
    say(f"{folder.path} is as it was on {when}; start it with `glossarium up --data {folder.path}`")
