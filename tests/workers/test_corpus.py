"""Corpora of every form give the same documents, and bad ones say what is wrong and where."""

import gzip
import json
import zlib
from collections.abc import Callable
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schema.errors import BadCorpus
from workers import corpus
from workers.corpus import BUNDLED, Document, Shard, contexts, corpus_digest, open_corpus

TEXTS = ["First text.", "Zweiter Text über Äpfel.", "First text.", "第四"]


def write_jsonl(path: Path, texts: list[str] = TEXTS) -> Path:
    path.write_text("".join(json.dumps({"id": i, "text": text}) + "\n" for i, text in enumerate(texts)), "utf-8")
    return path


def write_gzip(path: Path) -> Path:
    path.write_bytes(gzip.compress(write_jsonl(path.with_name("plain")).read_bytes()))
    return path


def write_parquet(path: Path) -> Path:
    pyarrow.parquet.write_table(pyarrow.table({"id": list(range(4)), "text": TEXTS}), path)
    return path


def write_folder(path: Path) -> Path:
    (path / "sub").mkdir(parents=True)
    for name, text in zip(("a.txt", "b.txt", "c.txt", "sub/d.txt"), TEXTS, strict=True):
        (path / name).write_bytes(b"\xef\xbb\xbf" * (name == "b.txt") + text.encode())
    (path / "notes.md").write_text("not a document")
    return path


def words(text: str) -> list[int]:
    return [zlib.crc32(word.encode()) for word in text.split()]


@pytest.mark.parametrize("write", [write_jsonl, write_gzip, write_parquet, write_folder])
@pytest.mark.parametrize("name", ["corpus", "0a1b2c"])  # an upload is kept under its digest, without a suffix
def test_every_form_gives_the_same_documents(tmp_path: Path, write: Callable[[Path], Path], name: str) -> None:
    path = write(tmp_path / name)
    assert list(open_corpus(path)) == [Document(i, text) for i, text in enumerate(TEXTS)]


def test_a_text_file_is_one_document(tmp_path: Path) -> None:
    path = tmp_path / "book.txt"
    path.write_text('{"text": 1}\nChapter 1')
    assert [document.text for document in open_corpus(path)] == ['{"text": 1}\nChapter 1']


def test_a_folder_may_mix_forms_and_numbers_run_on(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl")
    write_parquet(tmp_path / "b.parquet")
    (tmp_path / "c.txt").write_text("last")
    found = list(open_corpus(tmp_path))
    assert [document.index for document in found] == list(range(9))
    assert found[8].text == "last"


def test_blank_lines_and_a_byte_order_mark_are_no_documents(tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"text": "one"}\r\n\r\n   \n{"text": "two"}')
    assert list(open_corpus(path)) == [Document(0, "one"), Document(1, "two")]


def test_binary_and_blank_documents_are_skipped_and_keep_their_number(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "c.jsonl", ["one", "nul \0 inside", " \n", "", "\ud800 alone", "six"])
    assert list(open_corpus(path)) == [Document(0, "one"), Document(5, "six")]
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "binary.txt").write_bytes(b"\xff\xfe\x00\x80")
    (folder / "text.txt").write_text("text")
    assert list(open_corpus(folder)) == [Document(1, "text")]


def test_bundled_corpus_is_whole() -> None:
    indices = [document.index for document in open_corpus(BUNDLED)]
    assert len(indices) >= 200
    assert indices == list(range(len(indices)))  # none was skipped


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty; a corpus needs at least one document"),
        (b"\n \n", "is empty"),
        (b'{"text": "\\u0000"}', "is empty"),
        (b'{"text": "a"}\n\n{"text": ', "line 3 of 'c.jsonl' is not JSON"),
        (b'{"text": "a"}\n\xff\xfe', "line 2 of 'c.jsonl' is not JSON"),
        (b'{"text": "a"}\n{"body": "b"}', "line 2 of 'c.jsonl' has no text field"),
        (b'{"text": 5}', "line 1 of 'c.jsonl' has no text field"),
        (b'["text"]', "line 1 of 'c.jsonl' has no text field"),
        (b"[" * 100_000, "line 1 of 'c.jsonl' is not JSON"),
        (b"\x1f\x8b nonsense", "damaged or truncated gzip"),
        (gzip.compress(b'{"text": "a"}\n' * 99)[:-12], "damaged or truncated gzip"),
        (b"PAR1 nonsense", "not readable parquet"),
    ],
)
def test_bad_files_say_what_is_wrong(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "c.jsonl"
    path.write_bytes(content)
    with pytest.raises(BadCorpus, match=message):
        list(open_corpus(path))


def test_missing_files_empty_folders_and_unreadable_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadCorpus, match="there is no corpus at"):
        list(open_corpus(tmp_path / "nothing"))
    with pytest.raises(BadCorpus, match="there is no corpus at"):
        corpus_digest(tmp_path / "nothing")
    with pytest.raises(BadCorpus, match="holds no file that ends in"):
        list(open_corpus(tmp_path))


@pytest.mark.parametrize("column", [{"body": ["a"]}, {"text": [1]}])
def test_parquet_without_texts_names_its_columns(tmp_path: Path, column: dict[str, list[object]]) -> None:
    pyarrow.parquet.write_table(pyarrow.table(column), tmp_path / "c")
    with pytest.raises(BadCorpus, match=f"no text column of strings; its columns are .*{next(iter(column))}"):
        list(open_corpus(tmp_path / "c"))


def test_parquet_with_missing_and_dictionary_coded_texts_is_read(tmp_path: Path) -> None:
    texts = pyarrow.array(["a", None, "a"]).dictionary_encode()
    pyarrow.parquet.write_table(pyarrow.table({"text": texts}), tmp_path / "c")
    assert list(open_corpus(tmp_path / "c")) == [Document(0, "a"), Document(2, "a")]


def test_a_document_over_the_limit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus, "MAX_DOCUMENT_BYTES", 40)
    path = write_jsonl(tmp_path / "c.jsonl", ["short", "long " * 20])
    with pytest.raises(BadCorpus, match=r"line 2 of 'c\.jsonl' is longer than 40 bytes"):
        list(open_corpus(path))
    (tmp_path / "c.txt").write_text("long " * 20)
    with pytest.raises(BadCorpus, match=r"'c\.txt' is larger than 40 bytes"):
        list(open_corpus(tmp_path / "c.txt"))


@given(st.integers(1, 7))
def test_shards_part_the_documents(tmp_path_factory: pytest.TempPathFactory, count: int) -> None:
    path = write_jsonl(tmp_path_factory.mktemp("shards") / "c.jsonl", [f"text {i}" for i in range(20)])
    shards = [list(open_corpus(path, Shard(i, count))) for i in range(count)]
    assert max(map(len, shards)) - min(map(len, shards)) <= 1
    assert sorted((d for shard in shards for d in shard), key=lambda d: d.index) == list(open_corpus(path))


def test_a_document_is_set_apart_from_its_shard(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "c.jsonl", [f"text {i}" for i in range(9)])
    assert [document.index for document in open_corpus(path, Shard(1, 3, without=frozenset({4})))] == [1, 7]
    assert [document.index for document in open_corpus(path, Shard(1, 3, only=4))] == [4]


def test_a_shard_without_documents_is_no_empty_corpus(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "c.jsonl", ["only one"])
    assert list(open_corpus(path, Shard(3, 4))) == []


def test_repeated_documents_are_in_the_same_half_and_halves_are_even() -> None:
    assert Document(0, "same").split == Document(17, "same").split
    n_score = sum(Document(0, f"text {i}").split for i in range(2000))
    assert 900 < n_score < 1100


def test_digest_is_of_contents_not_of_place(tmp_path: Path) -> None:
    first, second = write_folder(tmp_path / "a"), write_folder(tmp_path / "b")
    assert corpus_digest(first) == corpus_digest(second)
    (second / "a.txt").write_text("changed")
    assert corpus_digest(first) != corpus_digest(second)
    path = tmp_path / "c"
    path.write_bytes(b"abc")
    assert corpus_digest(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_contexts_overlap_by_one_token() -> None:
    documents = [Document(3, "a b c d e f g")]
    found = list(contexts(documents, lambda text: [ord(word) - 97 for word in text.split()], 4))
    assert [(c.document, c.offset, c.ids) for c in found] == [(3, 0, [0, 1, 2, 3]), (3, 3, [3, 4, 5, 6])]
    assert [c.number for c in found] == [3 << 32, 3 << 32 | 3]
    assert {c.split for c in found} == {documents[0].split}


@given(st.lists(st.integers(0, 40), max_size=4), st.integers(3, 9))
def test_every_token_but_the_first_counts_once(lengths: list[int], length: int) -> None:
    documents = [Document(i, "x" * n) for i, n in enumerate(lengths)]
    found = list(contexts(documents, lambda text: list(range(len(text))), length))
    counted = [(c.document, c.offset + t) for c in found for t in range(1, len(c.ids))]
    assert counted == [(i, t) for i, n in enumerate(lengths) for t in range(1, n)]
    assert all(1 < len(c.ids) <= length for c in found)


@given(st.lists(st.integers(0, 40), max_size=4), st.integers(2, 9))
def test_with_a_sink_every_token_counts_once(lengths: list[int], length: int) -> None:
    documents = [Document(i, "x" * n) for i, n in enumerate(lengths)]
    found = list(contexts(documents, lambda text: list(range(len(text))), length, sink=-5))
    assert all(c.ids[0] == -5 and 1 < len(c.ids) <= length for c in found)
    counted = [(c.document, token) for c in found for token in c.ids[1:]]
    assert counted == [(i, t) for i, n in enumerate(lengths) for t in range(n)]
    assert [c.offset for c in found] == [c.ids[1] for c in found]


def test_an_enormous_document_is_tokenized_in_stretches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus, "_STRETCH", 50)
    text = " ".join(f"word{i}" for i in range(200)) + " " + "x" * 120
    asked: list[str] = []

    def tokenize(part: str) -> list[int]:
        asked.append(part)
        return words(part)

    found = list(contexts([Document(0, text)], tokenize, 16))
    assert max(map(len, asked)) <= 50
    assert "".join(asked) == text
    tokens = [token for c in found for token in c.ids[1:]]
    assert tokens[:199] == words(text)[1:200]  # no word was cut in two


def test_numbers_beyond_the_limit_are_refused() -> None:
    with pytest.raises(BadCorpus, match="at most"):
        _ = corpus.Context(2**31, 0, 0, []).number
