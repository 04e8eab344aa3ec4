"""`glossarium inspect`: what a dictionary is and how it does on its subject, without submitting it."""

import tempfile
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from schema.health import Health, Inspection, Norms
from schema.subjects import BUNDLED
from service.conversion import PATH_HELP
from service.conversion import inspect as inspect_files
from service.render import printable
from service.terminal import AsJson, err, out, print_json

commands = typer.Typer()


@commands.command()
def inspect(
    path: Annotated[str, typer.Argument(help=PATH_HELP)],
    subject: Annotated[str, typer.Option(help="The model that the dictionary is of.")] = BUNDLED,
    layer: int | None = None,
    site: Annotated[str | None, typer.Option(help="Where it reads, such as resid_post.14.")] = None,
    revision: Annotated[str | None, typer.Option(help="Of the subject.")] = None,
    norm_coefficient: Annotated[float | None, typer.Option(help="What inputs are scaled by, if they are.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show a dictionary's shapes, site, norms and health, and submit nothing. Exit code 1 if it does not fit."""
    told = {"subject": subject, "layer": layer, "site": site, "revision": revision}
    with (
        tempfile.TemporaryDirectory(prefix="glossarium-") as folder,
        err.status(f"converting and measuring {printable(path)} …"),
    ):
        found = inspect_files(path, Path(folder), told | {"norm_coefficient": norm_coefficient})
    if as_json:
        print_json(found)
    else:
        out.print(inspection(found))
    if found.health is not None and not found.health.fits:
        raise typer.Exit(1)


def inspection(found: Inspection) -> Group:
    """Return an inspection as a person reads it in a terminal."""
    spec = found.spec
    table = Table(show_header=False, box=None)
    table.add_row("found", printable(found.found))
    table.add_row(
        "features",
        f"{spec.n_features:,} ({spec.encoder.kind}{'' if spec.encoder.k is None else f', k = {spec.encoder.k}'})",
    )
    table.add_row("site", spec.read_site + (f" → {spec.write_site}" if spec.write_site else "") + f" of {spec.subject}")
    table.add_row("inputs", _inputs(found))
    for tensor in found.tensors:
        table.add_row(tensor.name, f"{list(tensor.shape)} {tensor.dtype}")
    table.add_row("encoder norms", _norms(found.encoder_norms))
    table.add_row("decoder norms", _norms(found.decoder_norms))
    if found.duplicates is not None:
        table.add_row("near twins", f"{found.duplicates:.1%} of the features")
    if found.labels:
        table.add_row("labels", f"{found.labels:,} features are named in the files")
    if found.health is None:
        return Group(table, Text(found.unmeasured or ""))
    return Group(table, *_health(found.health))


def _inputs(found: Inspection) -> str:
    encoder = found.spec.encoder
    said: list[str] = [encoder.normalize] if encoder.normalize != "none" else []
    said += [f"× {encoder.norm_coefficient:.4g}"] if encoder.norm_coefficient is not None else []
    said += ["less b_dec"] if encoder.subtract_b_dec else []
    return ", ".join(said) or "as they are"


def _norms(norms: Norms | None) -> str:
    return "–" if norms is None else f"{norms.smallest:.3g} … {norms.median:.3g} … {norms.largest:.3g}"


def _health(health: Health) -> list[RenderableType]:
    table = Table(show_header=False, box=None)
    table.add_row("tokens", f"{health.n_tokens:,}")
    if health.fvu is not None and health.l0 is not None and health.dead is not None:
        table.add_row("FVU", f"{health.fvu:.3f}")
        table.add_row("L0", f"{health.l0:.1f}")
        table.add_row("silent", f"{health.dead:.1%} of the features on these tokens")
    if health.sink is not None:
        left = "" if health.sink.fvu is None else f", FVU {health.sink.fvu:.3g}"
        table.add_row("first position", f"{health.sink.norm:.3g} × the usual norm, L0 {health.sink.l0:.1f}{left}")
    for suspicion in health.suspicions:
        table.add_row(f"wrong {suspicion.mistake}?", f"{suspicion.suggestion} (FVU {suspicion.fvu:.3f})")
    return [table, Text(health.verdict, style="green" if health.fits else "red")]
