"""Named neutral prompts: text beginnings that commit to no subject, style or mood.

Three disjoint sets. `CALIBRATION` measures how far a feature moves the output; `DESCRIBE` begins the steered texts that
describers read; `SCORE` begins those that only judges read. The sets are part of every recipe: a changed prompt gets a
new name, and `PROMPTS_VERSION` moves with any change.
"""

from typing import NamedTuple

PROMPTS_VERSION = 1


class NeutralPrompt(NamedTuple):
    """A name that results refer to, and the text that the subject continues."""

    name: str
    text: str


# More than eight tokens in every tokenizer we know; calibration cuts them to its own length.
CALIBRATION: tuple[NeutralPrompt, ...] = (
    NeutralPrompt("visit", "Last week I went back to see what had changed there, and"),
    NeutralPrompt("report", "According to the people who wrote it, the main point is that"),
    NeutralPrompt("question", "What most of us would like to know is how this could ever"),
    NeutralPrompt("list", "There are a few things to keep in mind before you start with"),
    NeutralPrompt("scene", "She opened the door, looked around the room and saw that the"),
    NeutralPrompt("claim", "It is often said that nothing of this kind can be done without"),
    NeutralPrompt("history", "For many years the place was known mostly for one thing, which"),
    NeutralPrompt("letter", "Thank you for your message from the other day, I have been"),
)

# Four common words each, so that most tokenizers give all of them one length and they generate in one batch.
DESCRIBE: tuple[NeutralPrompt, ...] = (
    NeutralPrompt("weather", "The weather that day"),
    NeutralPrompt("thinking", "I have been thinking"),
    NeutralPrompt("first", "The first thing that"),
    NeutralPrompt("road", "At the next corner"),
    NeutralPrompt("they", "Some of them were"),
    NeutralPrompt("before", "Before we go there"),
    NeutralPrompt("morning", "Every morning he would"),
    NeutralPrompt("answer", "The short answer is"),
)

SCORE: tuple[NeutralPrompt, ...] = (
    NeutralPrompt("afternoon", "Later in the afternoon"),
    NeutralPrompt("idea", "My idea is that"),
    NeutralPrompt("most", "Most people said that"),
    NeutralPrompt("year", "By the next year"),
    NeutralPrompt("when", "When you look at"),
    NeutralPrompt("house", "In the old house"),
    NeutralPrompt("nobody", "No one had ever"),
    NeutralPrompt("then", "And then there was"),
)
