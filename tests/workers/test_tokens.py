"""Display strings of byte-level, byte-fallback and plain tokenizers."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from tests.tiny import make_tokenizer
from workers.tokens import Pieces

BYTE_LEVEL = make_tokenizer()
BYTE_LEVEL_PIECES = Pieces(BYTE_LEVEL)


def wrapped(model: Any, decoder: Any = None, normalizer: Any = None, pre_tokenizer: Any = None) -> Any:
    """Return a tokenizer of the given parts."""
    backend = Tokenizer(model)
    for name, part in (("decoder", decoder), ("normalizer", normalizer), ("pre_tokenizer", pre_tokenizer)):
        if part is not None:
            setattr(backend, name, part)
    return PreTrainedTokenizerFast(tokenizer_object=backend)


@given(st.text(max_size=60))
def test_byte_level_pieces_are_the_text(text: str) -> None:
    text = text.encode("utf-8", "ignore").decode("utf-8")
    ids = BYTE_LEVEL(text, add_special_tokens=False)["input_ids"]
    pieces = BYTE_LEVEL_PIECES.of_text(ids)
    assert len(pieces) == len(ids)
    assert "".join(pieces) == text


def test_a_character_of_several_tokens_stands_at_the_last() -> None:
    ids = BYTE_LEVEL("the é", add_special_tokens=False)["input_ids"]
    assert BYTE_LEVEL_PIECES.of_text(ids)[-3:] == (" ", "", "é")
    assert BYTE_LEVEL_PIECES.of_text(ids[-1:]) == ("\ufffd",)
    assert BYTE_LEVEL_PIECES.of_tokens(ids[-2:]) == ("\ufffd", "\ufffd")


def test_special_tokens_show_as_they_are_written() -> None:
    assert BYTE_LEVEL_PIECES.of_text([0, 1]) == ("<s>", "</s>")


def test_byte_fallback_pieces_are_the_text_after_the_space_that_the_tokenizer_adds() -> None:
    """As in Llama 2: the normaliser puts a space before the text, characters outside the vocabulary become bytes."""
    vocabulary = {"<unk>": 0} | {f"<0x{byte:02X}>": byte + 1 for byte in range(256)}
    vocabulary |= {name: 257 + i for i, name in enumerate(("▁", "t", "h", "e", "▁t", "he", "▁the"))}
    merges = [("▁", "t"), ("h", "e"), ("▁t", "he")]
    model = models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True)
    decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer = wrapped(model, decoder, normalizer)
    ids = tokenizer("the the 🙂", add_special_tokens=False)["input_ids"]
    assert Pieces(tokenizer).of_text(ids) == (" the", " the", " ", "", "", "", "🙂")


@pytest.mark.parametrize("decoder", [None, decoders.Metaspace()])
def test_tokenizers_of_whole_words_show_their_tokens(decoder: Any) -> None:
    tokenizer = wrapped(
        models.WordLevel({"a": 0, "▁b": 1, "?": 2}, unk_token="?"), decoder, None, pre_tokenizers.Whitespace()
    )
    assert Pieces(tokenizer).of_text([0, 1]) == (("a", "▁b") if decoder is None else ("a", " b"))
