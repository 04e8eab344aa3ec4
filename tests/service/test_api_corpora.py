"""Corpora over HTTP: what is taken and what is refused."""

import gzip
import json
import uuid
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from schema.errors import BadCorpus, Conflict
from service.corpora import check_corpus
from tests.service.conftest import MAX_UPLOAD, Api

LINES = b"".join(json.dumps({"id": n, "text": f"Document number {n}."}).encode() + b"\n" for n in range(3))


def parquet(path: Path, columns: dict[str, list[object]]) -> bytes:
    pyarrow.parquet.write_table(pyarrow.table(columns), path)
    return path.read_bytes()


def test_every_form_of_corpus_is_taken(api: Api, tmp_path: Path) -> None:
    table = parquet(tmp_path / "t", {"text": ["one", "two"], "n": [1, 2]})
    for number, content in enumerate([LINES, gzip.compress(LINES), table, b"\xef\xbb\xbf" + LINES, b"\n\n" + LINES]):
        path = tmp_path / f"corpus{number}"
        path.write_bytes(content)
        stored = api.client.upload_corpus(path)
        assert (stored.name, stored.n_bytes) == (path.name, len(content))
    assert len(api.files()) == 5
    assert [corpus.name for corpus in api.client.corpora()] == [f"corpus{number}" for number in (4, 3, 2, 1, 0)]


def test_the_same_bytes_under_the_same_name_are_one_corpus(api: Api, tmp_path: Path) -> None:
    path = tmp_path / "mails.jsonl"
    path.write_bytes(LINES)
    first = api.client.upload_corpus(path)
    assert api.client.upload_corpus(path) == first
    assert api.client.upload_corpus(path, "other name") != first
    assert api.http.get(f"/v1/corpora/{first.id}").json() == first.model_dump(mode="json")
    assert len(api.files()) == 1


def test_post_does_as_put_and_honours_its_key(api: Api) -> None:
    def post(name: str, body: bytes) -> str:
        response = api.http.post("/v1/corpora", params={"name": name}, content=body, headers={"Idempotency-Key": "k"})
        if response.status_code == 409:
            raise Conflict(response.json()["detail"])
        assert response.status_code == 201
        assert response.headers["location"] == f"/v1/corpora/{response.json()['id']}"
        return str(response.json()["id"])

    assert post("mails", LINES) == post("mails", LINES)
    with pytest.raises(Conflict, match="use a new key"):
        post("mails", LINES + LINES)
    with pytest.raises(Conflict, match="use a new key"):
        post("letters", LINES)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"the corpus is empty \(0 bytes\); send JSONL"),
        (b"\n \n", "the corpus has no text in its first 2 lines"),
        (b'{"text": " "}\n{"text": ""}\n', "the corpus has no text in its first 2 lines"),
        (b'{"text": "a"}\n{"txt": "b"}\n', "line 2 has no string `text`: .*txt"),
        (b'{"text": "a"}\n{"text": 3}\n', "line 2 has no string `text`"),
        (b'["text"]\n', "line 1 has no string `text`"),
        (b"Once upon a time\n", "line 1 is not JSON .*Once upon"),
        (b"\xff\xfe\x00", "line 1 is not JSON"),
        (b"[" * 100_000, "line 1 is not JSON"),
        (gzip.compress(b""), "the corpus has no text in its first 0 lines"),
        (gzip.compress(LINES)[:-10], "damaged or truncated gzip"),
        (b"\x1f\x8b" + bytes(50), "damaged or truncated gzip"),
        (b"PAR1" + bytes(50), "truncated parquet: its end is missing"),
        (b"PAR1" + bytes(50) + b"PAR1", "damaged parquet"),
    ],
)
def test_what_is_no_corpus_is_refused_and_says_why(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "corpus"
    path.write_bytes(content)
    with pytest.raises(BadCorpus, match=message):
        check_corpus(path)


def test_a_parquet_without_text_is_refused_with_its_columns(tmp_path: Path) -> None:
    path = tmp_path / "corpus"
    parquet(path, {"body": ["a"], "n": [1]})
    with pytest.raises(BadCorpus, match="has the columns body, n; "):
        check_corpus(path)
    parquet(path, {"text": [1]})
    with pytest.raises(BadCorpus, match=r"has the columns text; .*of strings"):
        check_corpus(path)
    path.write_bytes(parquet(tmp_path / "empty", {"text": []}))
    with pytest.raises(BadCorpus):
        check_corpus(path)


def test_a_refused_corpus_leaves_nothing(api: Api) -> None:
    response = api.http.put("/v1/corpora", params={"name": "x"}, content=b"")
    assert "the corpus is empty" in api.problem(response, 422, "BadCorpus")
    response = api.http.put("/v1/corpora", params={"name": "x"}, content=bytes(MAX_UPLOAD + 1))
    assert "the limit is 100,000 bytes" in api.problem(response, 413, "TooLarge")
    response = api.http.put("/v1/corpora", content=LINES)
    assert "query.name: Field required" in api.problem(response, 422, "InvalidInput")
    assert api.files() == []
    assert list(api.client.corpora()) == []


def test_a_name_that_the_database_can_not_hold_is_refused(api: Api) -> None:
    response = api.http.put("/v1/corpora", params={"name": "a\0b"}, content=LINES)
    assert "the database can't hold this value" in api.problem(response, 422, "InvalidInput")


def test_an_unknown_corpus_is_not_found(api: Api) -> None:
    id_ = uuid.uuid4()
    assert api.problem(api.http.get(f"/v1/corpora/{id_}"), 404, "NotFound") == f"no corpus {id_}"
