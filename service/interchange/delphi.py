"""delphi's layout: `explanations/<hookpoint>_latent<index>.txt`, each the JSON string of one explanation."""

import json
import re
from collections.abc import Iterator

from schema.subjects import Site
from service.interchange import tars
from service.interchange.tables import Rows

NAME = re.compile(r"(?P<source>.*)_latent(?P<index>[0-9]{1,9})\.txt")

_HOOKPOINTS = {"resid_post": "layers.{}", "mlp_out": "layers.{}.mlp", "attn_out": "layers.{}.self_attn"}


def hookpoint(site: str) -> str:
    """Return what delphi calls a site, where it has a name for it; else the site's own."""
    found = Site.parse(site)
    form = _HOOKPOINTS.get(found.kind)
    return found.path or str(found) if form is None else form.format(found.layer)


def write_delphi(rows: Rows, source: str) -> Iterator[bytes]:
    """Yield a tar of delphi's layout; features without a label are left out."""
    prefix = f"explanations/{tars.safe(source)}_latent"
    for some in rows:
        yield b"".join(
            tars.member(f"{prefix}{row.feature}.txt", json.dumps(row.label).encode())
            for row in some
            if row.label is not None
        )
    yield tars.END
