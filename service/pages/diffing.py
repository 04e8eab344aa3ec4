"""What changed from one text to another, word by word."""

import re
from difflib import SequenceMatcher

from markupsafe import Markup

MOST_WORDS = 400
"""Of a text that is compared; what is longer is shown as it is, as comparing takes the square of it."""
_WORDS = re.compile(r"\s+|\w+|[^\w\s]")


def word_diff(old: str, new: str) -> Markup:
    """Return the new text, with what is not in the old one in <ins> and what was left out in <del>."""
    one, other = _WORDS.findall(old), _WORDS.findall(new)
    if max(len(one), len(other)) > MOST_WORDS:
        return _isolated(new if old == new else _marked("del", old) + _marked("ins", new))
    steps = SequenceMatcher(None, one, other, autojunk=False).get_opcodes()
    parts = [_step(kind, "".join(one[i:j]), "".join(other[k:m])) for kind, i, j, k, m in steps]
    return _isolated(Markup("").join(parts))


def _step(kind: str, old: str, new: str) -> Markup:
    if kind == "equal":
        return Markup("{}").format(new)
    return _marked("del", old) + _marked("ins", new)


def _marked(name: str, text: str) -> Markup:
    return Markup("<{0}>{1}</{0}>").format(Markup(name), text) if text else Markup("")


def _isolated(text: str | Markup) -> Markup:
    return Markup("<bdi>{}</bdi>").format(text)
