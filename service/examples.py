"""Examples for the API's documentation, and how they are attached. A test holds each against its record."""

import re
from typing import Any

from schema.wire import Problem

Example = dict[str, Any]

_DICTIONARY_ID = "0b6f5a58-3d5c-4b0b-9a37-0d4f2f6f3c11"
_RUN_ID = "7c1d9be4-52d8-4d0c-8d07-5a1d3f8a9e20"
_CORPUS_ID = "e0c7f1aa-8a43-4c5e-b1de-6a2f4b7c9d55"
RECIPE = "3b1f0a6d5c2e4978b6a1d0c3f2e5948776655443322110ffeeddccbbaa998877"
_AT = "2026-02-03T10:15:00Z"
_LATER = "2026-02-03T10:17:42Z"

HEALTH: Example = {"status": "ok"}
READY: Example = {
    "ready": True,
    "database": {"ok": True, "reason": None},
    "migrations": {"ok": True, "reason": None},
    "redis": {"ok": True, "reason": None},
}
NOT_READY: Example = {
    "ready": False,
    "database": {"ok": False, "reason": "Postgres does not answer; try again in a few seconds"},
    "migrations": {"ok": False, "reason": "not known while the database is away"},
    "redis": {"ok": True, "reason": None},
}

NEURONS_SPEC: Example = {
    "name": "MLP neurons of layer 15",
    "subject": "bundled:smollm2-135m-instruct",
    "read_site": "mlp_hidden.15",
    "encoder": {"kind": "neurons"},
    "n_features": 1536,
}
SAE_SPEC: Example = {
    "name": "top-k autoencoder, residual of layer 14",
    "subject": "bundled:smollm2-135m-instruct",
    "read_site": "resid_post.14",
    "encoder": {"kind": "topk", "k": 32, "subtract_b_dec": True},
    "n_features": 4096,
    "source": "saelens",
}
DICTIONARY_SPECS: Example = {
    "neurons": {"summary": "MLP neurons: no weights to upload", "value": NEURONS_SPEC},
    "autoencoder": {"summary": "A sparse autoencoder: weights follow", "value": SAE_SPEC},
}
DICTIONARY: Example = {
    "id": _DICTIONARY_ID,
    "spec": {**NEURONS_SPEC, "revision": None, "write_site": None, "source": "glossarium"},
    "state": "ready",
    "weights_sha256": None,
    "digest": "9f2c1d7e4a6b8035c1d2e3f405162738495a6b7c8d9eafb0c1d2e3f4a5b6c7d8",
    "error": None,
    "created_at": _AT,
}
DICTIONARY_WITH_WEIGHTS: Example = {
    **DICTIONARY,
    "spec": {**SAE_SPEC, "revision": None, "write_site": None},
    "weights_sha256": "5d41402abc4b2a76b9719d911017c5925d41402abc4b2a76b9719d911017c592",
}
DICTIONARY_HEALTH: Example = {
    "n_tokens": 3842,
    "fvu": 0.17,
    "l0": 32.0,
    "dead": 0.021,
    "sink": {"norm": 98.3, "fvu": 0.99, "l0": 32.0},
    "suspicions": [],
    "verdict": "FVU 0.17, L0 32.0: the dictionary reconstructs resid_post.14 of bundled:smollm2-135m-instruct",
    "fits": True,
    "run_id": _RUN_ID,
    "measured_at": _LATER,
}
CORPUS: Example = {
    "id": _CORPUS_ID,
    "name": "support mails",
    "sha256": "c3ab8ff13720e8ad9047dd39466b3c8974e592c2fa383d4a3960714caef0c4f2",
    "n_bytes": 1_284_112,
    "created_at": _AT,
}

RUN_SPEC: Example = {
    "dictionary_id": _DICTIONARY_ID,
    "features": "random:24:0",
    "methods": ["lexical", "max_activating", "vocabulary", "combined"],
    "evaluations": ["input", "output", "free"],
}
_USED: Example = {
    "calls": 31,
    "from_cache": 4,
    "attempts": 28,
    "prompt_tokens": 24_180,
    "cached_tokens": 9_216,
    "completion_tokens": 1_902,
    "dollars": 0.0078,
}
RUN_SPECS: Example = {
    "sample": {"summary": "24 features drawn with seed 0", "value": RUN_SPEC},
    "list": {
        "summary": "Some features, on an uploaded corpus",
        "value": {"dictionary_id": _DICTIONARY_ID, "features": "0-9,12,400-420", "corpus": _CORPUS_ID},
    },
    "judge": {
        "summary": "With another LLM as the judge",
        "value": {"dictionary_id": _DICTIONARY_ID, "features": "0-99", "llm": "small", "judge": "large"},
    },
    "budget": {
        "summary": "At most five dollars for LLMs, and a million tokens",
        "value": {"dictionary_id": _DICTIONARY_ID, "llm": "large", "budget": {"dollars": 5, "tokens": 1_000_000}},
    },
    "no LLM": {
        "summary": "Every feature that fires, without an LLM",
        "value": {
            "dictionary_id": _DICTIONARY_ID,
            "features": "alive",
            "methods": ["lexical"],
            "evaluations": ["output", "free"],
            "llm": "none",
        },
    },
}
RUN: Example = {
    "id": _RUN_ID,
    "dictionary_id": _DICTIONARY_ID,
    "spec": RUN_SPEC,
    "state": "running",
    "note": None,
    "created_at": _AT,
    "started_at": _AT,
    "finished_at": None,
    "n_features": 24,
    "stages": [
        {
            "stage": "exemplars",
            "jobs": 2,
            "jobs_done": 2,
            "units": 2,
            "units_done": 2,
            "dead": 0,
            "seconds": 41.7,
            "first_started_at": _AT,
            "last_finished_at": _LATER,
        }
    ],
    "counts": [{"method": "combined", "status": "ok", "n": 7}, {"method": None, "status": "unlabelled", "n": 17}],
    "usage": {
        **_USED,
        "by_purpose": [{"purpose": "describe combined", "status": "ok", **_USED, "seconds": 61.4}],
        "spending": {
            "budget": {"dollars": 5.0, "tokens": None},
            "spent": {"dollars": 0.0078, "tokens": 26_082},
            "reserved": {"dollars": 0.0031, "tokens": 5_120},
            "left": {"dollars": 4.9891, "tokens": None},
            "n_settled": 28,
            "n_open": 2,
        },
    },
}
PAUSED_RUN: Example = {**RUN, "state": "paused"}
CANCELLED_RUN: Example = {**RUN, "state": "cancelled", "finished_at": _LATER}

RESUMPTIONS: Example = {
    "as it is": {"summary": "With the budget that it has", "value": {}},
    "raised": {"summary": "With another budget", "value": {"budget": {"dollars": 10}}},
}

INPUT_SCORE: Example = {
    "feature": 412,
    "kind": "input",
    "description_id": 9001,
    "method": "combined",
    "status": "ok",
    "estimate": {"value": 0.92, "low": 0.8, "high": 1.0, "n": 10},
    "control": {"value": 0.51, "low": 0.44, "high": 0.58, "n": 200},
    "lift": 0.41,
    "lift_low": 0.27,
    "lift_high": 0.52,
    "success": True,
    "recipe": RECIPE,
}
OUTPUT_SCORE: Example = {
    **INPUT_SCORE,
    "kind": "output",
    "estimate": {"value": 0.7, "low": 0.48, "high": 0.86, "n": 20},
    "control": {"value": 0.33, "low": 0.16, "high": 0.55, "n": 20},
    "lift": 0.37,
    "lift_low": 0.1,
    "lift_high": 0.6,
}
LABEL: Example = {
    "feature": 412,
    "text": "Fires on the names of rivers and makes the text go on about boats and bridges.",
    "status": "ok",
    "method": "combined",
    "description_id": 9001,
    "author": "glossarium",
    "input": INPUT_SCORE,
    "output": OUTPUT_SCORE,
    "best_input": "Names of rivers.",
    "best_output": "Text about boats and bridges.",
    "run_id": _RUN_ID,
    "created_at": _LATER,
}
RUN_REPORT: Example = {
    "run_id": _RUN_ID,
    "dictionary_id": _DICTIONARY_ID,
    "n_features": 24,
    "labels": {
        "statuses": [{"status": "ok", "n": 21, "share": 0.875}, {"status": "unparsed", "n": 3, "share": 0.125}],
        "methods": {"combined": 13, "lexical": 8},
        "scores": [
            {
                "kind": "output",
                "statuses": {"ok": 20, "unparsed": 3, "unreachable": 1},
                "success": {"value": 0.8, "low": 0.58, "high": 0.92, "n": 20},
                "value": {"value": 0.71, "low": 0.62, "high": 0.8, "n": 20},
                "lift": {"value": 0.37, "low": 0.26, "high": 0.48, "n": 20},
            }
        ],
    },
    "methods": [
        {
            "method": "combined",
            "descriptions": {"ok": 21, "unparsed": 3},
            "scores": [
                {
                    "kind": "embedding_auroc",
                    "statuses": {"ok": 21, "unparsed": 3},
                    "success": None,
                    "value": {"value": 0.64, "low": 0.57, "high": 0.71, "n": 21},
                    "lift": {"value": 0.13, "low": 0.06, "high": 0.2, "n": 21},
                }
            ],
        }
    ],
    "features": [
        {
            "kind": "free_input",
            "statuses": {"ok": 23, "dead": 1},
            "success": None,
            "value": {"value": 0.12, "low": 0.05, "high": 0.21, "n": 23},
            "lift": {"value": 0.11, "low": 0.04, "high": 0.2, "n": 23},
        }
    ],
    "controls": [
        {
            "kind": "output",
            "figure": "value",
            "rate": {"value": 0.34, "low": 0.29, "high": 0.39, "n": 20},
            "chance": 0.3333333333333333,
            "contains_chance": True,
        }
    ],
    "ranking": {
        "n_ranked": 20,
        "best": [
            {
                "feature": 412,
                "text": LABEL["text"],
                "method": "combined",
                "lift_low": 0.37,
                "input_lift_low": 0.27,
                "output_lift_low": 0.1,
            }
        ],
        "worst": [
            {
                "feature": 7,
                "text": "The job is a finite",
                "method": "lexical",
                "lift_low": -1.05,
                "input_lift_low": -0.5,
                "output_lift_low": -0.55,
            }
        ],
    },
    "dead": {"n": 1, "n_tested": 1, "n_revived": 0},
    "stages": RUN["stages"],
    "usage": RUN["usage"],
    "created_at": _LATER,
}
PROMPT_FILE: Example = {"id": "describe/feature.v1", "sha256": RECIPE, "n_shared_characters": 1264}
FEATURE_PROMPT: Example = {
    "method": "combined",
    "status": "ok",
    "reason": None,
    "prompt_id": "describe/feature.v1",
    "prompt_sha256": RECIPE,
    "messages": [{"role": "user", "content": 'Where it fires, with strength:\n<data …>\n[10, "by the <<river>> we"]'}],
    "n_tokens": 611,
    "dollars": 0.00012,
}
ESTIMATE: Example = {
    "n_features": 240,
    "n_pool_only": 30,
    "calls": 1240,
    "prompt_tokens": 702_000,
    "completion_tokens": 71_000,
    "dollars": 0.15,
    "by_purpose": [
        {
            "purpose": "describe combined",
            "profile": "default",
            "calls": 270,
            "prompt_tokens": 210_000,
            "completion_tokens": 12_400,
            "dollars": 0.04,
        }
    ],
}
PROBLEM: Example = {
    "type": "urn:glossarium:problem:unknown-site",
    "title": "Unknown site",
    "status": 422,
    "detail": "layer=99; bundled:smollm2-135m-instruct has 0..29",
    "error": "UnknownSite",
    "errors": [],
}


def _refusal(status: int, error: str, detail: str) -> Example:
    words = [part for part in re.split(r"(?=[A-Z])", error) if part]
    name = "-".join(words).lower()
    return {
        "type": f"urn:glossarium:problem:{name}",
        "title": " ".join(words).capitalize(),
        "status": status,
        "detail": detail,
        "error": error,
        "errors": [],
    }


NO_KEY = _refusal(401, "Unauthorized", "no API key came: send `Authorization: Bearer glk_…`")
FORBIDDEN = _refusal(
    403,
    "Forbidden",
    "key 5f0c4a3e-7b61-4f0d-9c55-2f6f1a7f0b42 has the scope read, and this needs submit; use another key",
)
TOO_MANY = _refusal(
    429,
    "RateLimited",
    "1200 changes a minute are what one key may send; try again in 7 s (the operator sets "
    "GLOSSARIUM_CHANGES_PER_MINUTE)",
)


def _problem(description: str, example: Example) -> Example:
    content = {"application/problem+json": {"example": example}}
    return {"model": Problem, "description": description, "content": content}


PROBLEMS: dict[int | str, Example] = {
    401: _problem("No API key, or one that is not known, expired or revoked", NO_KEY),
    403: _problem("The key's scope does not suffice", FORBIDDEN),
    429: _problem("Too many requests of this key; `Retry-After` says when to come again", TOO_MANY),
    "default": _problem("What is wrong: the value, the limit and what to do (RFC 9457)", PROBLEM),
}


def page(item: Example) -> Example:
    """Return a page that holds an example."""
    return {"items": [item], "next_cursor": None}


def ok(example: Any) -> dict[int | str, Example]:
    """Return the documentation of a 200 with this body."""
    return {200: {"content": {"application/json": {"example": example}}}}


def created(example: Any) -> dict[int | str, Example]:
    """Return the documentation of a 201 with this body."""
    return {201: {"content": {"application/json": {"example": example}}}}
