"""Examples of trials for the API's documentation. A test holds each against its record."""

from schema.trials import Trial
from service.examples import DICTIONARY, Example
from service.feature_examples import FEATURE_SUMMARY

_AT, _LATER, _END = "2026-02-03T10:15:00Z", "2026-02-03T10:15:01Z", "2026-02-03T10:17:00Z"
ACTIVATIONS_SPEC: Example = {"text": "They crossed the Danube", "k": 2}
ACTIVATIONS_SPECS: Example = {"text": {"summary": "The two most active features a token", "value": ACTIVATIONS_SPEC}}
STEERING_SPEC: Example = {"prompt": "I think that", "strengths": [0.5, -0.5], "unit": "kl_nats"}
STEERING_SPECS: Example = {
    "KL": {"summary": "As strongly as the evidence was steered", "value": STEERING_SPEC},
    "r": {
        "summary": "Relative to the residual stream",
        "value": {"prompt": "I think that", "strengths": [0.2, 0.4, 0.8], "unit": "r", "n_tokens": 40, "seed": 7},
    },
}
TEXT_TRIAL: Example = {
    "id": "5e8b7c1a-2f0d-4a63-9c47-b1d6e9f03a52",
    "dictionary_id": DICTIONARY["id"],
    "kind": "activations",
    "feature": None,
    "spec": ACTIVATIONS_SPEC,
    "state": "done",
    "error": None,
    "reason": None,
    "created_at": _AT,
    "started_at": _AT,
    "finished_at": _LATER,
    "expires_at": _END,
    "activations": {
        "tokens": [
            {"token": "They", "features": []},
            {"token": " crossed", "features": [{"index": 412, "activation": 0.4}]},
            {"token": " the", "features": []},
            {"token": " Dan", "features": [{"index": 412, "activation": 6.31}]},
            {"token": "ube", "features": [{"index": 412, "activation": 2.2}]},
        ],
        "features": [FEATURE_SUMMARY],
    },
    "steering": None,
}
STEERING_TRIAL: Example = {
    **TEXT_TRIAL,
    "kind": "steering",
    "feature": 412,
    "spec": {**STEERING_SPEC, "n_tokens": 25, "seed": 0, "temperature": 0.75},
    "activations": None,
    "steering": {
        "unsteered": " the best way to do it is to ask",
        "steered": [
            {
                "strength": 0.5,
                "alpha": 22.0,
                "r": 0.4,
                "achieved_kl_nats": 0.49,
                "reached": True,
                "text": " the river is best seen from the bridge",
            },
            {
                "strength": -0.5,
                "alpha": -275.0,
                "r": 5.0,
                "achieved_kl_nats": 0.11,
                "reached": False,
                "text": None,
            },
        ],
        "feature": FEATURE_SUMMARY,
    },
}
WAITING_TRIAL: Example = {
    **TEXT_TRIAL,
    "state": "waiting",
    "started_at": None,
    "finished_at": None,
    "activations": None,
}
CANCELLED_TRIAL: Example = {**WAITING_TRIAL, "state": "cancelled", "finished_at": _LATER}
_LATER_ANSWER: Example = {
    "description": "It is not over yet; `GET /v1/trials/{id}` follows it",
    "model": Trial,
    "content": {"application/json": {"example": WAITING_TRIAL}},
}


def _tried(example: Example) -> dict[int | str, Example]:
    return {
        200: {"description": "It is over", "content": {"application/json": {"example": example}}},
        202: _LATER_ANSWER,
    }


TRIED_TEXT = _tried(TEXT_TRIAL)
STEERED = _tried(STEERING_TRIAL)
