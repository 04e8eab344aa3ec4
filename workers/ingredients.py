"""What the labels of a run are made from, part by part: equal parts, equal labels. Free of torch.

Finer than one recipe: it tells why a label is stale. The features of a run are no part of it, nor is what it may cost.
"""

from typing import get_args

from prompts.used import prompts_used
from schema.evidence import EvidenceKind
from schema.recipes import digest
from schema.settings import Settings
from schema.store.run_features import Brief
from workers import describe, recipes, refine, score_recipe, write

_VERSIONS = (describe.VERSION, write.VERSION, refine.VERSION, score_recipe.VERSION)


def ingredients(brief: Brief, corpus: str, settings: Settings) -> dict[str, str]:
    """Return the sha256 of each part: evidence, prompt, model and procedure.

    corpus: the sha256 of the run's corpus.

    Raises: InvalidInput if a profile of the run is not there any more; BadProfiles.
    """
    spec = brief.spec
    llms = recipes.llms(brief, settings)
    parts: dict[str, object] = {
        "evidence": {kind: recipes.evidence(kind, brief, corpus) for kind in get_args(EvidenceKind)},
        "prompt": prompts_used(spec),
        "model": [*(llms[name] for name in spec.profiles), settings.embeddings_model],
        "procedure": [
            _VERSIONS, spec.methods, spec.evaluations, spec.seed, spec.options.model_dump(mode="json")
        ],
    }  # fmt: skip
    return {name: digest(part) for name, part in parts.items()}
