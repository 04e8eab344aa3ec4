"""Which prompt files a run's labels are made with, as its spec alone tells."""

from collections.abc import Iterator, Mapping

from prompts.describing import PROMPT, asking_methods
from prompts.evaluation import CHOICE, CONTEXTS, SENTENCES, SIMILAR
from prompts.loader import load_prompt
from prompts.paper import paper_prompt
from schema.records import RunSpec

_OF_EVALUATIONS: Mapping[str, str] = {
    "input": SENTENCES,
    "sensitivity": SIMILAR,
    "output_llm": CHOICE,
    **{str(kind): prompt for kind, prompt in CONTEXTS.items()},
}


def prompts_used(spec: RunSpec) -> dict[str, str]:
    """Return the prompt files that a run may ask with: sha256 by id."""
    return {id_: load_prompt(id_).sha256 for id_ in sorted(set(_ids(spec)))}


def _ids(spec: RunSpec) -> Iterator[str]:
    yield "repair/reply.v1"
    for method in spec.methods:
        if method == "refined":
            yield "describe/revise.v1"
        elif method in asking_methods():
            asked = paper_prompt(method) if spec.options.prompts == "paper" else (PROMPT, ())
            yield from () if asked is None else (asked[0],)
    for evaluation in spec.evaluations:
        yield from (_OF_EVALUATIONS[evaluation],) if evaluation in _OF_EVALUATIONS else ()
