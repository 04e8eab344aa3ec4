"""What the scores of a run are made from. Free of torch, so that judges and publishers can name it too."""

from schema import profiles
from schema.recipes import digest
from schema.settings import Settings
from workers import recipes
from workers.desk import Block

VERSION = 3


def score_recipe(block: Block, settings: Settings) -> str:
    """Return the recipe of a run's scores; it names the models that the profiles stand for now."""
    spec = block.brief.spec
    return digest(
        {
            "kind": "scores",
            "version": VERSION,
            "dictionary": block.brief.dictionary.digest,
            "exemplars": recipes.evidence("exemplars", block.brief, block.corpus),
            "texts": recipes.evidence("steered_texts", block.brief, block.corpus),
            "methods": spec.methods,
            "evaluations": spec.evaluations,
            "llms": [_llm(name, settings) for name in spec.profiles],
            "seed": spec.seed,
            "options": spec.options.model_dump(mode="json"),
        }
    )


def _llm(name: str, settings: Settings) -> dict[str, object] | None:
    found = profiles.profile(name, settings)
    return found.recipe if found else None
