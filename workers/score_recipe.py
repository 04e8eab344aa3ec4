"""What the scores of a run are made from. Free of torch, so that judges and publishers can name it too."""

from schema.recipes import digest
from workers import recipes
from workers.desk import Block

_VERSION = 2


def score_recipe(block: Block) -> str:
    """Return the recipe of a run's scores."""
    spec = block.brief.spec
    return digest(
        {
            "kind": "scores",
            "version": _VERSION,
            "dictionary": block.brief.dictionary.digest,
            "exemplars": recipes.evidence("exemplars", block.brief, block.corpus),
            "texts": recipes.evidence("steered_texts", block.brief, block.corpus),
            "methods": spec.methods,
            "evaluations": spec.evaluations,
            "llm": spec.llm,
            "seed": spec.seed,
            "options": spec.options.model_dump(mode="json"),
        }
    )
