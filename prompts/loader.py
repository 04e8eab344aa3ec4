"""Prompt files: versioned Markdown, read once, rendered by plain substitution.

A file's id is its path without the suffix (`describe/feature.v1`). A published version is never edited: labels carry
its id and sha256. Sections are headings of the first level:

    # system              what all calls share
    # example user        few-shot turns, any number of pairs, verbatim
    # example assistant
    # part NAME           optional pieces, joined where the user section says $parts
    # user                the last turn; $name is replaced, $$ is a dollar sign

Substituted values are never scanned again, so text from a corpus can't name another value.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from string import Template
from typing import Literal, NamedTuple, TypedDict

from schema.errors import NotFound


class Message(TypedDict):
    """One turn of a chat, as every OpenAI-compatible endpoint takes it."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True)
class Prompt:
    """A prompt file."""

    id: str
    sha256: str
    system: str
    examples: tuple[Message, ...]
    parts: Mapping[str, str]
    user: str

    def messages(self, **values: str) -> tuple[Message, ...]:
        """Return the chat: system and examples first, what differs between calls last.

        Parts whose names are all among `values` are kept, in the file's order.
        Raises KeyError if the user section names a value that is not given.
        """
        kept = [Template(part).substitute(values) for part in self.parts.values() if _names(part) <= values.keys()]
        user = Template(self.user).substitute(values, parts="\n\n".join(kept))
        system: list[Message] = [{"role": "system", "content": self.system}] if self.system else []
        return (*system, *self.examples, {"role": "user", "content": user})


class Ask(NamedTuple):
    """A rendered prompt, ready to send."""

    prompt: Prompt
    messages: tuple[Message, ...]


def prompt_ids() -> list[str]:
    """Return the ids of all prompt files, in order."""
    folder = files("prompts")
    return sorted(
        f"{room.name}/{file.name.removesuffix('.md')}"
        for room in folder.iterdir()
        if room.is_dir()
        for file in room.iterdir()
        if file.name.endswith(".md")
    )


@cache
def load_prompt(id: str) -> Prompt:
    """Return the prompt of an id such as `describe/feature.v1`; NotFound if there is none."""
    if not re.fullmatch(r"[a-z_]+/[a-z_]+\.v\d+", id):
        raise NotFound(f"prompt {id!r}: an id looks like describe/feature.v1")
    file = files("prompts").joinpath(f"{id}.md")
    if not file.is_file():
        raise NotFound(f"prompt {id!r}: no such file in prompts/")
    text = file.read_text(encoding="utf-8")
    return _parse(id, text)


def _parse(id: str, text: str) -> Prompt:
    """Return a file's sections as a prompt; ValueError names a heading that does not belong."""
    pieces = re.split(r"^# (.+)$", text, flags=re.MULTILINE)[1:]
    system, user, examples, parts = "", "", list[Message](), dict[str, str]()
    for heading, body in zip(pieces[::2], (body.strip("\n") for body in pieces[1::2]), strict=True):
        match heading.split():
            case ["system"]:
                system = body
            case ["user"]:
                user = body
            case ["example", ("user" | "assistant") as role]:
                examples.append({"role": role, "content": body})
            case ["part", name]:
                parts[name] = body
            case _:
                raise ValueError(f"{id}: heading {heading!r}; must be system, example user|assistant, part NAME, user")
    return Prompt(id, hashlib.sha256(text.encode()).hexdigest(), system, tuple(examples), parts, user)


def _names(template: str) -> set[str]:
    return set(Template(template).get_identifiers())
