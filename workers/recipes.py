"""What each result is made from. A recipe names inputs, parameters and the method's version; never computed floats."""

from collections.abc import Mapping

from schema import profiles
from schema.evidence import EvidenceKind
from schema.labels import Provenance
from schema.recipes import digest
from schema.records import RunSpec
from schema.release import release
from schema.settings import Settings
from schema.store.run_features import Brief
from workers.corpus import Shard
from workers.methods.prompts_neutral import PROMPTS_VERSION

# Raise a version when the method's results change; everything that was made by it is then made again.
VERSIONS: dict[str, int] = {
    "thresholds": 1,
    "exemplars": 2,
    "reading": 1,
    "vocabulary": 1,
    "token_change": 2,
    "jacobian": 1,
    "agreement": 1,
    "calibration": 1,
    "steered_texts": 1,
}

# How the subject is run: up to the read site, not at all, through all blocks with a cache. The other kinds resume it at
# the write site where it can be.
_PATHS: dict[EvidenceKind, str] = {"exemplars": "truncated", "vocabulary": "weights", "steered_texts": "whole"}

CENTRED_FROM = 256  # features; 2-methods, "Vocabulary projection"


def llms(brief: Brief, settings: Settings) -> Mapping[str, Mapping[str, object] | None]:
    """Return what decides the answers of a run's LLM profiles, by name: as recorded when it was submitted, else now."""
    return profiles.recipes(brief.spec.profiles, settings) if brief.llms is None else brief.llms


def thresholds(brief: Brief, corpus: str) -> str:
    """Return the recipe of the firing thresholds of a dictionary on a corpus."""
    return digest({"kind": "thresholds", "version": VERSIONS["thresholds"], **_corpus(brief, corpus)})


def partial(brief: Brief, corpus: str, shard: Shard) -> str:
    """Return the recipe of the exemplars of some documents of a corpus."""
    divided: dict[str, object] = {} if shard.only is None else {"only": shard.only}
    divided |= {"without": sorted(shard.without)} if shard.without else {}
    place = {"shard": shard.index, "of": shard.count, **divided}
    return digest({"kind": "partial", "whole": exemplars(brief, corpus), **place})


def exemplars(brief: Brief, corpus: str) -> str:
    """Return the recipe of the exemplars of a dictionary on a corpus."""
    return evidence("exemplars", brief, corpus)


def reading(brief: Brief, corpus: str, tokenization: str) -> str:
    """Return the recipe of the contexts of a corpus; all dictionaries of subjects with one tokenizer share them."""
    made_from = {"corpus": corpus, "tokenization": tokenization, "length": brief.spec.options.context_length}
    return digest({"kind": "reading", "version": VERSIONS["reading"], **made_from})


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
    ingredients = {"kind": kind, "version": VERSIONS[kind], "dictionary": brief.dictionary.digest}
    return digest(ingredients | _parameters(kind, brief, corpus))


def provenance(
    kind: EvidenceKind,
    brief: Brief,
    corpus: str,
    fingerprint: Mapping[str, str | int],
    seconds: float,
    n_tokens: int = 0,
) -> Provenance:
    """Return what a kind of evidence was made from, with the machine's part that the recipe leaves out.

    fingerprint: of the subject in the process that computed.
    seconds:     that it took for all features that were done together.
    n_tokens:    counted tokens of text, of the corpus or of prompts, that the subject read for it.
    """
    document: dict[str, object] = {
        **fingerprint,
        "kind": kind,
        "version": VERSIONS[kind],
        "glossarium": release(),
        "dictionary": brief.dictionary.digest,
        "corpus": corpus,
        "seed": brief.spec.seed,
        "parameters": _parameters(kind, brief, corpus),
        "path": _PATHS.get(kind, fingerprint["path"]),
        "seconds": round(seconds, 3),
        "n_tokens": n_tokens,
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
        case "exemplars":
            made_from = {"seed": spec.seed, "k": options.k_exemplars, "thresholds": thresholds(brief, corpus)}
            return made_from | _corpus(brief, corpus)
        case "vocabulary":
            return {"k": options.k_tokens, "centred": brief.dictionary.spec.n_features >= CENTRED_FROM}
        case "calibration":
            return {"targets": options.kl_targets, "prompts": PROMPTS_VERSION}
        case "token_change":
            return {
                "form": options.token_change,
                "strength": options.token_change_strength,
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
