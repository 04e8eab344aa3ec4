"""What every format has in common: what the user asked for, what comes out, and how tensors are read and written."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from schema.errors import BadWeights, InvalidInput, UnknownSite, UnknownSubject
from schema.records import DictionarySpec
from schema.settings import Settings
from schema.subjects import SITE_KINDS, Site, subject_facts, width
from schema.weights import check_weights, read_header

_KEPT = (torch.float32, torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class Wanted:
    """What the user said of the files. None leaves it to the files.

    site: `resid_post.14`, or a kind alone where `layer` gives the layer.
    """

    subject: str
    name: str | None = None
    revision: str | None = None
    site: str | None = None
    layer: int | None = None
    norm_coefficient: float | None = None

    def chosen_site(self) -> str | None:
        """Return the site that the user named. Raises UnknownSite."""
        if self.site is None or self.layer is None:
            return None if self.site is None else str(Site.parse(self.site))
        if self.site not in SITE_KINDS:
            raise UnknownSite(f"site={self.site!r} with --layer {self.layer}; must be one of {', '.join(SITE_KINDS)}")
        return f"{self.site}.{self.layer}"


class Converted(NamedTuple):
    """A dictionary in canonical form; `found` says in a few words what it was."""

    spec: DictionarySpec
    tensors: Mapping[str, Tensor]
    found: str


def read_json(path: Path) -> dict[str, Any]:
    """Return a JSON object. Raises BadWeights."""
    try:
        value = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as exc:
        raise BadWeights(f"file={path.name!r}; must be a JSON object: {exc}") from exc
    if not isinstance(value, dict):
        raise BadWeights(f"file={path.name!r}; must be a JSON object")
    return value


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file. Raises BadWeights."""
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except (OSError, SafetensorError) as exc:
        if path.is_file():
            read_header(path)  # says in our own words what is wrong with most files
        raise BadWeights(f"file={path.name!r}; must be safetensors: {exc}") from exc


def canonical(tensor: Tensor) -> Tensor:
    """Return a tensor as canonical weights hold it: contiguous, in float32 unless it is a smaller float."""
    return tensor.to(tensor.dtype if tensor.dtype in _KEPT else torch.float32).contiguous()


def write_converted(converted: Converted, out: Path, settings: Settings) -> None:
    """Write spec.json and weights.safetensors (none for neurons) to a folder, and check them against the subject.

    Raises: UnknownSite, BadWeights, ShapeMismatch, NotFinite. A failed check leaves no spec.json.
    """
    out.mkdir(parents=True, exist_ok=True)
    for name in ("spec.json", "weights.safetensors"):
        (out / name).unlink(missing_ok=True)
    d_read, d_write = _widths(converted.spec, settings)
    if converted.tensors:
        weights = out / "weights.safetensors"
        save_file({name: canonical(tensor) for name, tensor in converted.tensors.items()}, weights)
        check_weights(weights, converted.spec, d_read, d_write)
    spec = converted.spec.model_dump(mode="json", exclude_defaults=True)
    (out / "spec.json").write_text(json.dumps(spec, indent=1) + "\n", "utf-8")


def _widths(spec: DictionarySpec, settings: Settings) -> tuple[int | None, int | None]:
    """Return the widths of the read and the write site, where the subject is known on this machine."""
    read, write = Site.parse(spec.read_site), Site.parse(spec.write_site or spec.read_site)
    try:
        facts = subject_facts(spec.subject, settings)
    except UnknownSubject:
        if spec.subject.startswith(("bundled:", "/", ".")):
            raise
        return None, None  # a Hugging Face id: the installation that takes the dictionary checks it
    return width(facts, read), width(facts, write)


def need(config: Mapping[str, Any], key: str) -> Any:
    """Return an entry that a format must have. Raises InvalidInput."""
    if config.get(key) is None:
        raise InvalidInput(f"{key}=None; the format's configuration must have it")
    return config[key]
