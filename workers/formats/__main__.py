"""Converts a dictionary to the canonical form: `python -m workers.formats PATH --subject NAME --out DIR`.

Writes DIR/spec.json and DIR/weights.safetensors, and says in one line what was found. PATH may be a reference `hf:…`,
`neurons` or `heads`. With --inspect it writes DIR/inspection.json besides: shapes, norms, and health on a few thousand
tokens. With --list, where PATH is none and has dictionaries below it, it only writes their paths to DIR/listing.json.
Ends with code 2 and one line on stderr if the input can't be used, with 1 if the hub does not answer.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from schema.errors import InvalidInput, StorageFull, Unavailable
from schema.settings import load_settings
from workers.formats.files import Wanted
from workers.formats.listing import write_listing
from workers.formats.readers import convert, known_formats
from workers.formats.writing import write_converted


def main(arguments: Sequence[str] | None = None) -> int:
    """Return the exit code: 0, or 2 if the input can't be used."""
    options = _parser().parse_args(arguments)
    wanted = Wanted(
        options.subject, options.name, options.revision, options.site, options.layer, options.norm_coefficient
    )
    settings = load_settings()
    try:
        if options.list and (n_found := write_listing(options.path, options.out)):
            sys.stdout.write(f"{n_found} dictionaries\n")
            return 0
        converted = convert(options.path, wanted, settings)
        write_converted(converted, options.out, settings)
        if options.inspect:
            from workers.inspection import write_inspection  # loads the subject's libraries, which take seconds

            write_inspection(converted, options.out, settings)
    except InvalidInput as exc:
        sys.stderr.write(f"{exc}\n")
        return 2
    except (Unavailable, StorageFull) as exc:
        sys.stderr.write(f"{exc}\n")
        return 1
    spec = converted.spec
    sys.stdout.write(f"{converted.found}: {spec.n_features} features at {spec.read_site} of {spec.subject}\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m workers.formats", description="Convert a feature dictionary.")
    parser.add_argument("path", help="; ".join(known_formats()))
    parser.add_argument("--subject", required=True, help="the subject model, by this installation's name")
    parser.add_argument("--out", required=True, type=Path, help="the folder to write to")
    parser.add_argument("--name", help="the dictionary's name; the folder's or file's unless given")
    parser.add_argument("--revision", help="the subject's revision")
    parser.add_argument("--site", help="where it reads and writes, such as resid_post.14; needed for directions")
    parser.add_argument("--layer", type=int, help="of neurons and heads, or of a --site without one")
    parser.add_argument("--norm-coefficient", type=float, help="what inputs are scaled by (expected_average_only_in)")
    parser.add_argument("--list", action="store_true", help="if dictionaries are below PATH, only say which")
    parser.add_argument("--inspect", action="store_true", help="measure it as well, on the subject if it is here")
    return parser


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    sys.exit(main())
