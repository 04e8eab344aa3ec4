"""Converts a dictionary to the canonical form: `python -m workers.formats PATH --subject NAME --out DIR`.

Writes DIR/spec.json and DIR/weights.safetensors, and says in one line what was found. PATH may be `neurons`. Ends with
code 2 and one line on stderr if the input can't be used.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from schema.errors import BadWeights, InvalidInput
from schema.settings import Settings, load_settings
from schema.subjects import subject_facts
from workers.formats import directions, neurons, saelens
from workers.formats.files import Converted, Wanted, write_converted


def convert(path: str, wanted: Wanted, settings: Settings) -> Converted:
    """Return what a path holds, in canonical form. Raises InvalidInput."""
    if path == "neurons":
        return neurons.convert(subject_facts(wanted.subject, settings), wanted)
    place = Path(path).expanduser()
    if saelens.recognises(place):
        return saelens.convert(place, wanted)
    if directions.recognises(place):
        return directions.convert(place, wanted)
    state = "no known format" if place.exists() else "no such path"
    raise BadWeights(
        f"path={path!r}: {state}; must be a SAELens folder ({saelens.CONFIG}, {saelens.WEIGHTS}), "
        "directions (.safetensors, .npy), or the word neurons"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Return the exit code: 0, or 2 if the input can't be used."""
    options = _parser().parse_args(arguments)
    wanted = Wanted(
        options.subject, options.name, options.revision, options.site, options.layer, options.norm_coefficient
    )
    settings = load_settings()
    try:
        converted = convert(options.path, wanted, settings)
        write_converted(converted, options.out, settings)
    except InvalidInput as exc:
        sys.stderr.write(f"{exc}\n")
        return 2
    spec = converted.spec
    sys.stdout.write(f"{converted.found}: {spec.n_features} features at {spec.read_site} of {spec.subject}\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m workers.formats", description="Convert a feature dictionary.")
    parser.add_argument("path", help="a SAELens folder, a .safetensors or .npy file of directions, or `neurons`")
    parser.add_argument("--subject", required=True, help="the subject model, by this installation's name")
    parser.add_argument("--out", required=True, type=Path, help="the folder to write to")
    parser.add_argument("--name", help="the dictionary's name; the folder's or file's unless given")
    parser.add_argument("--revision", help="the subject's revision")
    parser.add_argument("--site", help="where it reads and writes, such as resid_post.14; needed for directions")
    parser.add_argument("--layer", type=int, help="of neurons, or of a --site without one")
    parser.add_argument("--norm-coefficient", type=float, help="what inputs are scaled by (expected_average_only_in)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
