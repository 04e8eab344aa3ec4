"""Versioned prompt files, their loader, and how text from a corpus is quoted in them."""

from prompts.evaluation import ContextKind, ask_about_contexts, ask_for_choice, ask_for_sentences, ask_for_similar
from prompts.loader import Ask, Message, Prompt, load_prompt, prompt_ids
from prompts.quoting import quote

__all__ = [
    "Ask",
    "ContextKind",
    "Message",
    "Prompt",
    "ask_about_contexts",
    "ask_for_choice",
    "ask_for_sentences",
    "ask_for_similar",
    "load_prompt",
    "prompt_ids",
    "quote",
]
