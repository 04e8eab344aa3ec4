"""Token ids to display strings, such that joined strings are the text.

A token of a byte-level or byte-fallback tokenizer may hold part of a character only. Such bytes show as an empty
string, and the whole character stands at the token that completes it.
"""

import codecs
import json
import re
from collections.abc import Sequence
from typing import Any


class Pieces:
    """The display strings of one tokenizer, looked up by id."""

    def __init__(self, tokenizer: Any) -> None:
        self._bytes = _token_bytes(tokenizer)
        self._whole = [_decoded(piece) for piece in self._bytes]
        self._alone = [piece.decode("utf-8", "replace") for piece in self._bytes]

    def of_text(self, ids: Sequence[int]) -> tuple[str, ...]:
        """Return one string a token of a running text; "".join of them is the text."""
        whole = [self._string(i) for i in ids]
        if None not in whole:
            return tuple(piece for piece in whole if piece is not None)
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        pieces = [decoder.decode(self._bytes_of(i)) for i in ids]
        pieces[-1] += decoder.decode(b"", final=True)
        return tuple(pieces)

    def of_tokens(self, ids: Sequence[int]) -> tuple[str, ...]:
        """Return one string a token, each read by itself: for lists of tokens that are no text."""
        try:
            return tuple(map(self._alone.__getitem__, ids))
        except IndexError:  # an unembedding may have more rows than the tokenizer has tokens
            return tuple(self._bytes_of(i).decode("utf-8", "replace") for i in ids)

    def _string(self, i: int) -> str | None:
        return self._whole[i] if i < len(self._whole) else f"<{i}>"

    def _bytes_of(self, i: int) -> bytes:
        return self._bytes[i] if i < len(self._bytes) else f"<{i}>".encode()


def _decoded(piece: bytes) -> str | None:
    try:
        return piece.decode("utf-8")
    except UnicodeDecodeError:
        return None


def _token_bytes(tokenizer: Any) -> list[bytes]:
    ids = range(len(tokenizer))
    names = tokenizer.convert_ids_to_tokens(list(ids))
    added = {i: token.content for i, token in tokenizer.added_tokens_decoder.items()}
    kind = _decoder_kinds(tokenizer)
    return [
        added[i].encode() if i in added else _bytes_of_name(name or f"<{i}>", kind)
        for i, name in zip(ids, names, strict=True)
    ]


def _decoder_kinds(tokenizer: Any) -> frozenset[str]:
    decoder = json.loads(tokenizer.backend_tokenizer.to_str())["decoder"] or {}
    return frozenset(part["type"] for part in decoder.get("decoders", [decoder]) if "type" in part)


def _bytes_of_name(name: str, kinds: frozenset[str]) -> bytes:
    if "ByteLevel" in kinds:
        return b"".join(_BYTE_OF.get(c, c.encode()) for c in name)
    fallback = re.fullmatch(r"<0x([0-9A-Fa-f]{2})>", name) if "ByteFallback" in kinds else None
    if fallback:
        return bytes([int(fallback[1], 16)])
    return name.replace("▁", " ").encode() if kinds & {"Metaspace", "ByteFallback", "Replace"} else name.encode()


def _byte_alphabet() -> dict[str, bytes]:
    """Return GPT-2's spelling of the 256 bytes as printable characters (the `bytes_to_unicode` of its release)."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    spelled = {chr(byte): bytes([byte]) for byte in printable}
    return spelled | {chr(256 + n): bytes([byte]) for n, byte in enumerate(others)}


_BYTE_OF = _byte_alphabet()
