"""Corpus text as data inside a prompt.

A quotation is JSON lines between delimiters that carry a message authentication code of the content: the same content
gives the same prompt (and so the same cache key), and whoever wrote the content can't forge its end.
"""

import base64
import hashlib
import hmac
import json
from collections.abc import Iterable
from typing import Any

# 40 bits: the writer of a text would have to guess the code of the very text that holds the guess, without an oracle.
# In base 32 they are 6 tokens of the bundled model, in base 16 they would be 9; each quotation has them twice.
CODE_LENGTH = 8


def encode(value: Any) -> str:
    """Return a value as one line of JSON, readable in every script; lone surrogates become `?`."""
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "replace").decode()


def quote(lines: Iterable[Any], secret: bytes) -> str:
    """Return JSON lines between delimiters that only the holder of the secret can make.

    lines:  JSON-serialisable values, one a line.
    """
    content = "\n".join(encode(line) for line in lines)
    authentic = hmac.digest(secret, hashlib.sha256(content.encode()).digest(), "sha256")
    code = base64.b32encode(authentic).decode().lower()[:CODE_LENGTH]
    return f"<data {code}>\n{content}\n</data {code}>"
