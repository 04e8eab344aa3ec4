"""Versioned prompt files, their loader, and how text from a corpus is quoted in them."""

from prompts.evaluation import ask_for_choice, ask_for_sentences
from prompts.loader import Ask, Message, Prompt, load_prompt
from prompts.quoting import quote

__all__ = ["Ask", "Message", "Prompt", "ask_for_choice", "ask_for_sentences", "load_prompt", "quote"]
