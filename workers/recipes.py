"""What each result is made from. A recipe names inputs, parameters and the method's version; never computed floats."""

from collections.abc import Mapping

from schema.recipes import digest
from schema.records import EvidenceKind, Provenance, RunSpec
from schema.store.run_features import Brief
from workers.methods.prompts_neutral import PROMPTS_VERSION

# Raise a version when the method's results change; everything that was made by it is then made again.
VERSIONS: dict[str, int] = {
    "thresholds": 1,
    "exemplars": 1,
    "vocabulary": 1,
    "token_change": 2,
    "jacobian": 1,
    "agreement": 1,
    "calibration": 1,
    "steered_texts": 1,
}

CENTRED_FROM = 256  # features; 2-methods, "Vocabulary projection"


def thresholds(brief: Brief, corpus: str) -> str:
    """Return the recipe of the firing thresholds of a dictionary on a corpus."""
    return digest({"kind": "thresholds", "version": VERSIONS["thresholds"], **_corpus(brief, corpus)})


def partial(brief: Brief, corpus: str, shard: int, n_shards: int) -> str:
    """Return the recipe of the exemplars of one corpus shard."""
    return digest({"kind": "partial", "shard": shard, "of": n_shards, "whole": exemplars(brief, corpus)})


def exemplars(brief: Brief, corpus: str) -> str:
    """Return the recipe of the exemplars of a dictionary on a corpus."""
    options = brief.spec.options
    made_from = {"seed": brief.spec.seed, "k": options.k_exemplars, "thresholds": thresholds(brief, corpus)}
    return digest({"kind": "exemplars", "version": VERSIONS["exemplars"], **made_from, **_corpus(brief, corpus)})


def jacobian(brief: Brief, corpus: str) -> str:
    """Return the recipe of the mean Jacobian of a write site; dictionaries of one site share it."""
    spec = brief.dictionary.spec
    place = {"subject": spec.subject, "revision": spec.revision, "site": spec.write_site or spec.read_site}
    return digest(
        {"kind": "jacobian", "version": VERSIONS["jacobian"], **place, **_change_contexts(brief.spec, corpus)}
    )


def agreement(brief: Brief, corpus: str) -> str:
    """Return the recipe of the agreement of linear token change with the exact one."""
    made_from = {"dictionary": brief.dictionary.digest, "jacobian": jacobian(brief, corpus)}
    strengths = evidence("calibration", brief, corpus)
    return digest({"kind": "agreement", "version": VERSIONS["agreement"], "strengths": strengths, **made_from})


def evidence(kind: EvidenceKind, brief: Brief, corpus: str) -> str:
    """Return the recipe of a kind of evidence."""
    if kind == "exemplars":
        return exemplars(brief, corpus)
    ingredients = {"kind": kind, "version": VERSIONS[kind], "dictionary": brief.dictionary.digest}
    return digest(ingredients | _parameters(kind, brief, corpus))


def provenance(
    kind: EvidenceKind, brief: Brief, corpus: str, fingerprint: Mapping[str, str], seconds: float
) -> Provenance:
    """Return what a kind of evidence was made from, with the machine's part that the recipe leaves out.

    fingerprint: of the subject as it was loaded.
    """
    document: dict[str, object] = {
        "kind": kind,
        "version": VERSIONS[kind],
        "dictionary": brief.dictionary.digest,
        "corpus": corpus,
        "seed": brief.spec.seed,
        "options": brief.spec.options.model_dump(mode="json"),
        "seconds": round(seconds, 3),
        **fingerprint,
    }
    return Provenance(recipe=evidence(kind, brief, corpus), document=document)


def _corpus(brief: Brief, corpus: str) -> dict[str, object]:
    return {
        "dictionary": brief.dictionary.digest,
        "corpus": corpus,
        "context_length": brief.spec.options.context_length,
    }


def _change_contexts(spec: RunSpec, corpus: str) -> dict[str, object]:
    """Return what decides the contexts of token change."""
    options = spec.options
    sizes = {"contexts": options.token_change_contexts, "length": options.token_change_length}
    return {"corpus": corpus, "seed": spec.seed, **sizes}


def _parameters(kind: EvidenceKind, brief: Brief, corpus: str) -> dict[str, object]:
    spec: RunSpec = brief.spec
    options = spec.options
    match kind:
        case "vocabulary":
            return {"k": options.k_tokens, "centred": brief.dictionary.spec.n_features >= CENTRED_FROM}
        case "calibration":
            return {"targets": options.kl_targets, "prompts": PROMPTS_VERSION}
        case "token_change":
            return {
                "form": options.token_change,
                "linear": agreement(brief, corpus) if options.token_change == "linear" else None,
                **_change_contexts(spec, corpus),
                "strengths": evidence("calibration", brief, corpus),
            }
        case _:
            return {
                "seed": spec.seed,
                "prompts": (PROMPTS_VERSION, options.n_steered_prompts),
                "tokens": options.n_steered_tokens,
                "strengths": evidence("calibration", brief, corpus),
            }
