"""Archives: what is exported whole comes in whole elsewhere, and bad ones leave nothing behind."""

import base64
import hashlib
import io
import json
import tarfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import pytest
import zstandard

from schema.errors import BadArchive, Conflict, InvalidInput
from schema.labels import Label, Sentences, Status
from schema.records import Dictionary, Encoder, RunSpec
from schema.settings import Settings
from schema.store import database, descriptions, dictionaries, labels, run_features, runs
from schema.store.run_features import RunFeature
from schema.weights import check_weights
from service.interchange import archive as archive_format
from service.interchange import tars
from tests.conftest import _numbers, _with_database
from tests.service.conftest import D_MLP, MAX_UPLOAD, Api, SpecMaker, safetensors, serving, weights
from tests.service.test_cli import Glossarium, at_api, glossarium
from tests.service.test_exports import exported, fill

__all__ = ["at_api", "glossarium"]


@pytest.fixture
def elsewhere(postgres_url: str, settings: Settings, tmp_path: Path) -> Iterator[Api]:
    """Yield another installation: its own database, its own blobs."""
    name = f"elsewhere_{next(_numbers)}"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE migrated")
    other = settings.model_copy(
        update={"database_url": _with_database(postgres_url, name), "data_dir": tmp_path / "elsewhere"}
    )
    with serving(other) as running:
        yield running
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def whole(api: Api, spec_of: SpecMaker, tmp_path: Path) -> Dictionary:
    """Return a dictionary with weights, evidence, descriptions, scores, labels, sentences and two runs."""
    made = api.client.submit_dictionary(spec_of(name="whole", n_features=D_MLP))
    (tmp_path / "weights").write_bytes(safetensors(weights(D_MLP)))
    api.client.upload_weights(made.id, tmp_path / "weights")
    fill(api.settings.database_url, made)
    with database.connect(api.settings.database_url) as connection:
        for features, state in (("0-5", "done"), ("all", "running")):
            run_id = uuid.uuid4()
            spec = RunSpec(dictionary_id=made.id, features=features)
            runs.submit(connection, 1, run_id, spec, n_features=2, n_shards=1, llms={"default": {"model": "m"}})
            members = [RunFeature(0, 3, selected=True, pooled=True), RunFeature(1, 5, selected=True, pooled=False)]
            run_features.put(connection, run_id, members)
            runs.put_ingredients(connection, run_id, {"prompt": "p"})
            connection.execute("UPDATE run SET state = %s WHERE id = %s", (state, run_id))
            connection.commit()
        (described,) = descriptions.of_feature(connection, made.id, 3)
        written = Sentences(description_id=described.id or 0, status=Status.OK, activating=("a river",), recipe="w")
        descriptions.put_sentences(connection, written)
        newer = Label(feature=3, text="newer", status=Status.OK, method="combined", description_id=described.id)
        labels.publish(connection, made.id, run_id, newer, "l2")
        labels.tally(connection, [run_id], [newer.feature])
    return api.client.dictionary(made.id)


def archive_of(api: Api, dictionary: Dictionary, folder: Path, **options: object) -> Path:
    """Return the file of an archive."""
    path = folder / f"{uuid.uuid4().hex}.tar"
    api.client.export(dictionary.id, "archive", path, **options)
    return path


def test_what_is_imported_elsewhere_and_exported_again_is_the_same_to_the_byte(
    api: Api, elsewhere: Api, whole: Dictionary, tmp_path: Path
) -> None:
    first = archive_of(api, whole, tmp_path)
    made = elsewhere.client.import_dictionary(first)
    assert made.id != whole.id
    assert made == whole.model_copy(update={"id": made.id})
    assert archive_of(elsewhere, made, tmp_path).read_bytes() == first.read_bytes()
    for format_ in ("csv", "neuronpedia"):
        theirs, ours = exported(elsewhere, made, format_), exported(api, whole, format_)
        run_id = {str(run.id).encode(): b"RUN" for where in (api, elsewhere) for run in where.client.runs()}
        for id_, name in run_id.items():
            theirs, ours = theirs.replace(id_, name), ours.replace(id_, name)
        assert theirs == ours


def test_an_import_has_all_that_the_api_shows(api: Api, elsewhere: Api, whole: Dictionary, tmp_path: Path) -> None:
    made = elsewhere.client.import_dictionary(archive_of(api, whole, tmp_path))
    before, after = api.client.feature(whole.id, 3), elsewhere.client.feature(made.id, 3)
    assert after.exemplars == before.exemplars
    assert after.provenance == before.provenance
    assert after.summary == before.summary
    (described,) = after.descriptions
    assert after.label is not None
    assert (after.label.text, after.label.description_id) == ("newer", described.id)
    assert [score.description_id for score in after.scores if score.kind == "input"] == [described.id]
    history = elsewhere.http.get(f"/v1/dictionaries/{made.id}/features/3/labels").json()
    assert history[0]["text"] == "newer"
    counts = [[where.client.run(run.id).counts for run in where.client.runs()] for where in (api, elsewhere)]
    assert counts[0] == counts[1]
    with database.connect(elsewhere.settings.database_url) as connection:
        given = [labels.of_run(connection, run.id) for run in elsewhere.client.runs(made.id)]
    assert [[(one.feature, one.text) for one in some] for some in given] == [[(3, "newer")], []]
    assert history[1]["input"]["description_id"] == described.id
    states = {run.spec.features: (run.state, run.dictionary_id) for run in elsewhere.client.runs()}
    assert states == {"0-5": ("done", made.id), "all": ("cancelled", made.id)}
    assert {label.feature for run in elsewhere.client.runs() for label in elsewhere.client.labels(made.id, run.id)} == {
        3,
        5,
    }
    with database.connect(elsewhere.settings.database_url) as connection:
        written = descriptions.load_sentences(connection, [described.id or 0], "w")
        assert written[described.id or 0].activating == ("a river",)


def test_an_import_beside_its_origin_is_another_dictionary(api: Api, whole: Dictionary, tmp_path: Path) -> None:
    archive = archive_of(api, whole, tmp_path)
    made = api.client.import_dictionary(archive)
    assert archive_of(api, made, tmp_path).read_bytes() == archive.read_bytes()
    api.client.delete_dictionary(made.id)
    with database.connect(api.settings.database_url) as connection:
        assert connection.execute("SELECT count(*) FROM reading").fetchone() == (1,)
    assert api.client.feature(whole.id, 3).exemplars is not None


def test_without_weights_an_import_waits_for_those_very_ones(
    api: Api, elsewhere: Api, whole: Dictionary, tmp_path: Path
) -> None:
    made = elsewhere.client.import_dictionary(archive_of(api, whole, tmp_path, weights=False))
    assert (made.state, made.weights_sha256) == ("awaiting_weights", whole.weights_sha256)
    (tmp_path / "others").write_bytes(safetensors({**weights(D_MLP), "b_enc": weights(D_MLP)["b_enc"] + 1}))
    with pytest.raises(Conflict, match="has weights"):
        elsewhere.client.upload_weights(made.id, tmp_path / "others")
    ready = elsewhere.client.upload_weights(made.id, tmp_path / "weights")
    assert (ready.state, ready.digest) == ("ready", whole.digest)
    assert elsewhere.client.feature(made.id, 3).summary.label == "newer"


def test_weights_may_take_longer_than_a_transaction_may_be_idle(
    settings: Settings, api: Api, whole: Dictionary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(work: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any) -> Any:
            time.sleep(1.0)
            return work(*arguments)

        return run

    monkeypatch.setattr("schema.store.database._IDLE_IN_TRANSACTION", "300ms")
    monkeypatch.setattr("service.interchange.archive._stream", slow(archive_format._stream))
    monkeypatch.setattr("service.imports.check_weights", slow(check_weights))
    with serving(settings) as impatient:
        made = impatient.client.import_dictionary(archive_of(impatient, whole, tmp_path))
        assert made.weights_sha256 == whole.weights_sha256


def test_the_same_request_twice_imports_once(api: Api, whole: Dictionary, tmp_path: Path) -> None:
    content = archive_of(api, whole, tmp_path).read_bytes()
    url, headers = "/v1/dictionaries/import", {"Idempotency-Key": "k"}
    made = [api.http.post(url, content=content, headers=headers).json()["id"] for _ in range(2)]
    assert made[0] == made[1]


def test_the_command_exports_and_imports(at_api: Glossarium, whole: Dictionary, tmp_path: Path) -> None:
    path = tmp_path / "whole.tar"
    assert at_api("export", "whole", "--format", "archive", "--out", path).exit_code == 0
    result = at_api("import", path, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["spec"]["name"] == "whole"
    (tmp_path / "cut.tar").write_bytes(path.read_bytes()[:-3000])
    cut = at_api("import", tmp_path / "cut.tar")
    assert cut.exit_code == 2
    assert "the archive is cut" in cut.stderr
    assert at_api("import", tmp_path / "nothing.tar").exit_code == 2


def test_a_dictionary_that_waits_for_its_weights_is_not_archived(api: Api, spec_of: SpecMaker) -> None:
    made = api.client.submit_dictionary(spec_of())
    response = api.http.get(f"/v1/dictionaries/{made.id}/export", params={"format": "archive"})
    assert "awaiting_weights" in api.problem(response, 409, "Conflict")


# ------------------------------------------------------------------------------------------------------------ bad ones

Members = dict[str, bytes]


class Refused(NamedTuple):
    """A bad archive and what is said of it."""

    make: Callable[[bytes], bytes]
    said: str


def unpacked(content: bytes) -> Members:
    """Return the members of a tar."""
    return {member.name: member.whole(10**9) for member in tars.members(io.BytesIO(content))}


def packed(members: Members) -> bytes:
    """Return members as a tar."""
    return b"".join([tars.member(name, content) for name, content in members.items()] + [tars.END])


def with_entry(content: bytes, **fields: object) -> bytes:
    """Return an archive whose second member's header says something else."""
    entry = tarfile.TarInfo("features/0.jsonl.zst")
    for name, value in fields.items():
        setattr(entry, name, value)
    manifest = unpacked(content)["manifest.json"]
    return tars.member("manifest.json", manifest) + entry.tobuf(tarfile.GNU_FORMAT) + bytes(2048)


def changed(content: bytes, name: str, change: Callable[[bytes], bytes]) -> bytes:
    """Return an archive with a member changed."""
    return packed({key: change(value) if key == name else value for key, value in unpacked(content).items()})


def without(content: bytes, name: str) -> bytes:
    """Return an archive without a member."""
    return packed({key: value for key, value in unpacked(content).items() if key != name})


def flipped(content: bytes) -> bytes:
    """Return bytes with one of them changed."""
    return content[:-9] + bytes([content[-9] ^ 1]) + content[-8:]


BAD: dict[str, Refused] = {
    "empty": Refused(lambda _: b"", "is cut"),
    "a page of HTML": Refused(lambda _: b"<!doctype html>" * 100, "is not a tar"),
    "a pickle": Refused(lambda _: b"\x80\x04" + bytes(range(256)) * 4, "is not a tar"),
    "half": Refused(lambda whole: whole[: len(whole) // 2], "is cut"),
    "without its last blocks": Refused(lambda whole: whole[:-1024], "is cut"),
    "another tar": Refused(lambda _: packed({"a.txt": b"hello"}), "begins with 'a.txt'"),
    "without its end": Refused(lambda whole: without(whole, "end.json"), "has no end"),
    "without features": Refused(
        lambda whole: without(whole, "features/0.jsonl.zst"), "damaged: 'features/0.jsonl.zst'"
    ),
    "without weights": Refused(lambda whole: without(whole, "weights.safetensors"), "'weights.safetensors'"),
    "a damaged block": Refused(lambda whole: changed(whole, "features/0.jsonl.zst", flipped), "features/0.jsonl.zst"),
    "other weights": Refused(
        lambda whole: changed(whole, "weights.safetensors", flipped), "weights.safetensors has sha256"
    ),
    "of a later release": Refused(
        lambda whole: changed(whole, "manifest.json", lambda text: text.replace(b'"format": 1', b'"format": 2')),
        "format 2",
    ),
    "a name that leads elsewhere": Refused(lambda whole: with_entry(whole, name="../../etc/passwd"), "without `..`"),
    "an absolute name": Refused(lambda whole: with_entry(whole, name="/etc/passwd"), "must be relative"),
    "a symbolic link": Refused(
        lambda whole: with_entry(whole, type=tarfile.SYMTYPE, linkname="/etc/passwd"), "is a link; only plain files"
    ),
    "a device": Refused(lambda whole: with_entry(whole, type=tarfile.CHRTYPE), "only plain files"),
    "a member that says it is larger": Refused(lambda whole: with_entry(whole, size=10**6), "is cut within member"),
    "a member that says it is huge": Refused(lambda whole: with_entry(whole, size=10**15), "at most"),
    "a member of no kind": Refused(
        lambda whole: with_entry(whole, name="extra/0", size=0), "not one that an archive has"
    ),
    "a member twice": Refused(lambda whole: whole[:-1024] + whole, "comes twice"),
}


def test_bad_archives_are_refused_with_their_reasons_and_leave_nothing(
    api: Api, elsewhere: Api, whole: Dictionary
) -> None:
    content = exported(api, whole, "archive")
    for name, bad in BAD.items():
        response = elsewhere.http.post("/v1/dictionaries/import", content=bad.make(content))
        assert bad.said in elsewhere.problem(response, 422, "BadArchive"), name
        assert elsewhere.files() == [], name
    assert list(elsewhere.client.dictionaries()) == []
    with database.connect(elsewhere.settings.database_url) as connection:
        for table in ("feature", "evidence", "provenance", "reading", "context", "run", "idempotency"):
            assert connection.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,), table  # type: ignore[arg-type]


def rewritten(content: bytes, edit: Callable[[dict[str, Any]], object]) -> bytes:
    """Return an archive whose feature 3 was edited, and whose end says so: whole, but not one of ours."""
    members, name = unpacked(content), "features/0.jsonl.zst"
    lines = zstandard.ZstdDecompressor().decompress(members[name]).splitlines()
    feature = json.loads(lines[4])
    edit(feature)
    lines[4] = json.dumps(feature).encode()
    members[name] = zstandard.ZstdCompressor().compress(b"\n".join(lines))
    sums = {key: hashlib.sha256(value).hexdigest() for key, value in members.items() if key != "end.json"}
    return packed({**members, "end.json": json.dumps({"members": sums}).encode()})


JUNK = base64.b64encode(b"\x03 no frame").decode()
EDITS: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "nothing": (lambda line: None, ""),
    "a number": (lambda line: line.update(feature=4), "feature 4 comes where 3 should"),
    "a field more": (lambda line: line.update(html="x"), "html: Extra inputs are not permitted"),
    "no record": (lambda line: line["descriptions"][0]["body"].pop("status"), "feature 3: status: Field required"),
    "of another": (lambda line: line["descriptions"][0]["body"].update(feature=4), "is of another feature"),
    "a place": (lambda line: line["scores"][0].update(description=7), "description=7; there are 1"),
    "below": (lambda line: line["labels"][0].update(run=-1), "run=-1; there are 2"),
    "current": (lambda line: line.update(current=2), "current=2; there are 2"),
    "provenance": (lambda line: line["evidence"][0].update(provenance=2), "provenance=2; there are 2"),
    "no bytes": (lambda line: line["evidence"][0].update(payload="@"), "exemplars of feature 3"),
    "no frame": (lambda line: line["evidence"][0].update(payload=JUNK), "exemplars of feature 3: a packed record"),
    "twice": (lambda line: line["evidence"].append(line["evidence"][0]), "can't be stored: duplicate key"),
    "a NUL": (lambda line: line["descriptions"][0]["body"].update(text="a\0"), "can't be stored"),
}


def test_archives_that_are_whole_and_make_no_sense_are_refused_too(api: Api, elsewhere: Api, whole: Dictionary) -> None:
    content = exported(api, whole, "archive")
    for name, (edit, said) in EDITS.items():
        response = elsewhere.http.post("/v1/dictionaries/import", content=rewritten(content, edit))
        if not said:
            assert response.status_code == 201, response.text
            elsewhere.client.delete_dictionary(uuid.UUID(response.json()["id"]))
        else:
            assert said in elsewhere.problem(response, 422, "BadArchive"), name
    assert list(elsewhere.client.dictionaries()) == []


def test_an_archive_of_a_subject_that_is_not_allowed_is_refused(
    api: Api, whole: Dictionary, settings: Settings
) -> None:
    content = exported(api, whole, "archive")
    with serving(settings.model_copy(update={"subjects_allowed": ()})) as strict:
        response = strict.http.post("/v1/dictionaries/import", content=content)
        strict.problem(response, 422, "UnknownSubject")


def test_an_archive_over_the_limit_of_uploads_is_refused(api: Api) -> None:
    response = api.http.post("/v1/dictionaries/import", content=bytes(MAX_UPLOAD + 1))
    assert "the limit is" in api.problem(response, 413, "TooLarge")
    assert api.files() == []


def test_exceptions_of_imports_are_what_a_user_can_mend() -> None:
    assert issubclass(BadArchive, InvalidInput)


def test_neurons_have_no_weights_to_export(api: Api, spec_of: SpecMaker, tmp_path: Path) -> None:
    spec = spec_of(read_site="mlp_hidden.1", encoder=Encoder(kind="neurons"), n_features=D_MLP)
    made = api.client.import_dictionary(archive_of(api, api.client.submit_dictionary(spec), tmp_path))
    assert (made.state, made.weights_sha256) == ("ready", None)
    with database.connect(api.settings.database_url) as connection:
        assert dictionaries.get(connection, 1, made.id) == made
