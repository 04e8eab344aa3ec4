"""What the scores of a run are made from. Free of torch, so that judges and publishers can name it too."""

from schema.recipes import digest
from schema.settings import Settings
from workers import recipes
from workers.desk import Block

VERSION = 6


def score_recipe(block: Block, settings: Settings) -> str:
    """Return the recipe of a run's scores; it names the models that its profiles stood for when it was submitted."""
    spec = block.brief.spec
    llms = recipes.llms(block.brief, settings)
    return digest(
        {
            "kind": "scores",
            "version": VERSION,
            "dictionary": block.brief.dictionary.digest,
            "exemplars": recipes.evidence("exemplars", block.brief, block.corpus),
            "texts": recipes.evidence("steered_texts", block.brief, block.corpus),
            "methods": spec.methods,
            "evaluations": spec.evaluations,
            "llms": [llms[name] for name in spec.profiles],
            "seed": spec.seed,
            "options": spec.options.model_dump(mode="json"),
        }
    )
