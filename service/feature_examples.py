"""Examples of features for the API's documentation. A test holds each against its record."""

from service.examples import CORPUS, DICTIONARY, INPUT_SCORE, LABEL, OUTPUT_SCORE, RECIPE, Example

FEATURE_SUMMARY: Example = {
    "index": 412,
    "status": "ok",
    "label": LABEL["text"],
    "method": "combined",
    "density": 0.0098,
    "max_activation": 6.31,
    "input_success": True,
    "input_value": 0.92,
    "input_lift": 0.41,
    "output_success": True,
    "output_value": 0.7,
    "output_lift": 0.37,
}
_TOKENS: Example = {"ids": [5022, 8790], "tokens": [" river", " boat"], "values": [4.2, 3.9]}
_WINDOW: Example = {
    "document": 17,
    "position": 41,
    "peak": 3,
    "tokens": ["They", " crossed", " the", " Dan", "ube"],
    "activations": [0.0, 0.1, 0.4, 6.31, 2.2],
}
_HALF: Example = {"top": [_WINDOW], "uniform": [_WINDOW], "weighted": [], "silent": [], "hard_negatives": []}
_CURVE: list[Example] = [{"r": 0.02, "alpha": 1.1, "kl_nats": 0.001}, {"r": 0.4, "alpha": 22.0, "kl_nats": 0.5}]
_STEERED: list[Example] = [
    {"target_kl_nats": 0.5, "prompt": "I think that", "text": " the river is best seen from the bridge"}
]
_PROVENANCE: Example = {
    "kind": "exemplars",
    "version": 1,
    "glossarium": "0.1.0",
    "subject": "bundled:smollm2-135m-instruct",
    "revision": "b179c9523d0e6a0f",
    "dtype": "bfloat16",
    "device": "cpu",
    "threads": 2,
    "torch": "2.13.0",
    "transformers": "5.23.0",
    "path": "truncated",
    "tokens_per_forward": 1152,
    "rows_per_batch": 160,
    "dictionary": DICTIONARY["digest"],
    "corpus": CORPUS["sha256"],
    "seed": 0,
    "parameters": {"k": 20, "context_length": 128},
    "seconds": 41.2,
    "n_tokens": 150_000,
}
FEATURE: Example = {
    "summary": FEATURE_SUMMARY,
    "label": LABEL,
    "exemplars": {
        "n_tokens": 31_204,
        "n_firing": 306,
        "threshold": 1.7,
        "sum": 812.5,
        "max": 6.31,
        "histogram_edges": [1.7, 2.0, 2.4],
        "histogram": [204, 102],
        "describe": _HALF,
        "score": _HALF,
    },
    "vocabulary": {
        "promoted": _TOKENS,
        "suppressed": _TOKENS,
        "neighbours": [88, 1201],
        "cosines": [0.41, 0.38],
        "centred": True,
        "histogram": {"low": -4.0, "high": 8.0, "counts": [80, 640, 48], "every": 64},
    },
    "token_change": {
        "amplified_raised": _TOKENS,
        "amplified_lowered": _TOKENS,
        "suppressed_raised": _TOKENS,
        "suppressed_lowered": _TOKENS,
        "strength_amplified": 22.0,
        "strength_suppressed": -25.5,
        "n_contexts": 32,
        "n_positions": 1024,
        "method": "exact",
    },
    "calibration": {
        "residual_norm": 55.2,
        "amplified": _CURVE,
        "suppressed": _CURVE,
        "targets": [{"target_kl_nats": 0.5, "alpha": 22.0, "r": 0.4, "achieved_kl_nats": 0.51, "reached": True}],
    },
    "steered_texts": {"describe": _STEERED, "score": _STEERED},
    "descriptions": [
        {
            "id": 9001,
            "feature": 412,
            "method": "combined",
            "status": "ok",
            "text": LABEL["text"],
            "trigger": "names of rivers",
            "effect": "text about boats and bridges",
            "prompt_id": "describe/feature.v1",
            "model": "smollm2-135m-instruct",
            "parameters": {"temperature": 0.0},
            "prompt_tokens": 611,
            "cached_tokens": 380,
            "completion_tokens": 42,
            "recipe": RECIPE,
            "created_at": LABEL["created_at"],
        }
    ],
    "scores": [INPUT_SCORE, OUTPUT_SCORE],
    "provenance": {"exemplars": {"recipe": RECIPE, "document": _PROVENANCE}},
}
