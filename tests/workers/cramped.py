"""Computes with sizes that are far too large for its memory: a process of its own for tests/workers/test_memory.py."""

import json
import resource
from collections.abc import Callable
from pathlib import Path

import torch

from schema.errors import OutOfMemory
from schema.records import Record
from schema.subjects import Site
from tests.tiny import PLANTED_LAYER, build_subject, tiny_corpus
from workers.memory import Sizes
from workers.methods.calibration import calibrate
from workers.methods.jacobian import jacobian_rows
from workers.methods.prompts_neutral import DESCRIBE
from workers.methods.steering import GenerationOptions, Row, generate
from workers.methods.token_change import token_change
from workers.subject import Subject

SITE = Site("resid_post", PLANTED_LAYER)
TOO_LARGE = Sizes(tokens=2**18, rows=2**13, traced=2**18)
TARGETS = (0.25, -0.25)
MEBIBYTES = 80  # the sizes above need several times as much

Work = Callable[[Subject], list[Record] | list[tuple[int, ...]]]


def directions(subject: Subject) -> torch.Tensor:
    """Return seeded directions."""
    return torch.randn(40, subject.d_model, generator=torch.Generator().manual_seed(0))


def changes(subject: Subject) -> list[Record]:
    """Return token changes."""
    contexts = subject.batch([[subject.sink_id, *subject.tokenize(text)[:31]] for text in tiny_corpus(8)])
    ones = torch.ones(40)
    return list(token_change(subject, directions(subject), SITE, ones, -ones, contexts))


def calibrations(subject: Subject) -> list[Record]:
    """Return calibrations."""
    return list(calibrate(subject, SITE, directions(subject), TARGETS))


def texts(subject: Subject) -> list[tuple[int, ...]]:
    """Return tokens generated under interventions."""
    prompt = tuple(subject.tokenize(DESCRIBE[0].text))
    rows = [Row(prompt, vector, ("text", i)) for i, vector in enumerate(directions(subject))]
    return generate(subject, SITE, rows, GenerationOptions(n_tokens=4))


def jacobians(subject: Subject) -> list[tuple[int, ...]]:
    """Return the mean Jacobian, as its rows' bytes."""
    contexts = subject.batch([[subject.sink_id, *subject.tokenize(text)[:31]] for text in tiny_corpus(8)])
    rows = subject.at_once.fit(
        "traced", contexts.ids.numel(), lambda: torch.cat(list(jacobian_rows(subject, SITE, contexts)))
    )
    return [tuple(row.numpy().tobytes()) for row in rows]


WORK: dict[str, Work] = {"changes": changes, "calibrations": calibrations, "texts": texts, "jacobians": jacobians}


def confine(mebibytes: int) -> None:
    """Let this process have so much more memory than it has."""
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[0])
    limit = pages * resource.getpagesize() + mebibytes * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def squeezed(work: Work) -> dict[str, object]:
    """Return the sizes that were found to fit, whether they give the same at once, and what provenance says."""
    cramped, roomy = build_subject(), build_subject()
    cramped.at_once.sizes = TOO_LARGE
    found = work(cramped)
    roomy.at_once.sizes = cramped.at_once.sizes
    return {
        "sizes": cramped.at_once.sizes._asdict(),
        "same": found == work(roomy),
        "fingerprint": cramped.fingerprint,
    }


def refused() -> dict[str, object]:
    """Return the error of a row that does not fit."""
    at_once = build_subject().at_once
    row = 2 * MEBIBYTES * 2**20
    try:
        at_once.fit("tokens", 100, lambda: torch.empty(row, dtype=torch.uint8))
    except OutOfMemory as exc:
        return {"error": str(exc), "sizes": at_once.sizes._asdict()}
    return {}


def main() -> None:
    """Print what became of every piece of work, as JSON."""
    torch.set_num_threads(1)
    for work in WORK.values():
        work(build_subject())  # what is loaded when it is first used is not to count
    confine(MEBIBYTES)
    found = {name: squeezed(work) for name, work in WORK.items()}
    print(json.dumps(found | {"refused": refused()}))  # noqa: T201


if __name__ == "__main__":
    main()
