"""Presets of a run: named sets of the fields that a user would otherwise choose one by one."""

from types import MappingProxyType
from typing import Any

from schema.errors import InvalidInput

PRESETS: MappingProxyType[str, dict[str, Any]] = MappingProxyType(
    {
        # The design's own sizes: the defaults of RunSpec and RunOptions.
        "default": {},
        # For a first look on two cores with a small local LLM: fewer methods, shorter prompts and replies.
        "small": {
            "methods": ("lexical", "max_activating", "vocabulary", "combined"),
            "evaluations": ("input", "output", "output_llm", "free"),
            "options": {
                "pool_size": 24,
                "kl_targets": (0.5,),
                "judge_trials": 1,
                "judged": "label",
                "survivors": 1,
                "n_sentences": 3,
                "n_steered_prompts": 2,
                "n_steered_tokens": 16,
                "token_change_contexts": 16,
                "exemplars_in_prompt": 3,
                "tokens_in_prompt": 10,
                "reply_length": 0.6,
                "max_tokens_sentences": 200,
            },
        },
        # The most truth for the fewest tokens: the free description and one that is asked for compete, and only the one
        # that does better by embeddings is tested by LLMs. See docs/quality.md.
        "frugal": {
            "methods": ("lexical", "combined"),
            "evaluations": ("input", "output", "output_llm", "free"),
            "options": {
                "survivors": 1,
                "judged": "label",
                "judge_trials": 1,
                "exemplars_in_prompt": 8,
                "tokens_in_prompt": 20,
            },
        },
        # The procedure of arXiv 2501.08319: its eight methods, prompts of its structure, tokens that change at ±10, one
        # trial of the judge for every description. Distractors, controls and intervals are ours.
        "paper": {
            "methods": (
                "max_activating",
                "vocabulary",
                "token_change",
                "combined_vm",
                "combined_tm",
                "combined_vt",
                "combined",
                "concat",
            ),
            "evaluations": ("input", "output", "output_llm"),
            "options": {
                "prompts": "paper",
                "token_change_strength": 10.0,
                "judge_trials": 1,
                "judged": "every",
            },
        },
    }
)


def preset(name: str) -> dict[str, Any]:
    """Return the fields of a RunSpec that a preset sets.

    Raises: InvalidInput naming the presets if there is none of this name.
    """
    if name not in PRESETS:
        raise InvalidInput(f"preset {name!r}; must be one of {', '.join(PRESETS)}")
    return dict(PRESETS[name])
