"""Dictionaries over HTTP: what is taken, what is refused and why, and that nothing is left of what was refused."""

import base64
import hashlib
import pickle
import socket
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import psycopg
import pytest

from schema.errors import BadWeights, Conflict, InvalidInput, NotFound, ShapeMismatch, UnknownSite, UnknownSubject
from schema.records import Dictionary, Encoder, RunSpec
from service.deps import current_tenant
from tests.service.conftest import D_MLP, MAX_UPLOAD, Api, SpecMaker, safetensors, weights
from tests.service.planting import TERMS, measure

GOOD = safetensors(weights())


@pytest.fixture
def waiting(api: Api, spec_of: SpecMaker) -> Dictionary:
    """Return a dictionary that waits for its weights."""
    return api.client.submit_dictionary(spec_of())


def weights_url(dictionary: Dictionary) -> str:
    return f"/v1/dictionaries/{dictionary.id}/weights"


def still_waits(api: Api, dictionary: Dictionary) -> bool:
    return api.client.dictionary(dictionary.id).state == "awaiting_weights" and api.files() == []


def test_neurons_are_ready_at_once(api: Api, neurons: Dictionary) -> None:
    assert neurons.state == "ready"
    assert api.client.dictionary(neurons.id) == neurons
    assert [feature.index for feature in api.client.features(neurons.id)] == list(range(D_MLP))


def test_uploaded_weights_make_a_dictionary_ready(api: Api, waiting: Dictionary, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    path.write_bytes(GOOD)
    steps: list[tuple[int, int]] = []
    assert list(api.client.features(waiting.id)) == []
    ready = api.client.upload_weights(waiting.id, path, lambda sent, total: steps.append((sent, total)))
    assert (ready.state, ready.weights_sha256) == ("ready", hashlib.sha256(GOOD).hexdigest())
    assert steps == [(len(GOOD), len(GOOD))]
    assert [file.read_bytes() for file in api.files()] == [GOOD]
    assert len(list(api.client.features(waiting.id))) == 6
    assert api.client.upload_weights(waiting.id, path) == ready


def test_an_architecture_without_named_sites_takes_module_paths(
    api: Api, spec_of: SpecMaker, tiny_subject: str, tmp_path: Path
) -> None:
    """Its configuration need not have sizes, and how wide a module is only the worker finds out."""
    (Path(tiny_subject) / "config.json").write_text('{"model_type": "opt"}')
    with pytest.raises(UnknownSite, match=r"architecture='opt' of .*; its sites are module paths, module:PATH"):
        api.client.submit_dictionary(spec_of())
    waiting = api.client.submit_dictionary(spec_of(read_site="module:model.decoder.layers.1"))
    path = tmp_path / "weights.safetensors"
    path.write_bytes(GOOD)
    assert api.client.upload_weights(waiting.id, path).state == "ready"


def test_a_created_dictionary_says_where_it_is(api: Api, spec_of: SpecMaker) -> None:
    response = api.http.post("/v1/dictionaries", json=spec_of().model_dump(mode="json"))
    assert response.status_code == 201
    assert api.http.get(response.headers["location"]).json() == response.json()


UNFIT = [
    ({"subject": "gpt2"}, UnknownSubject, "subject='gpt2'; allowed here: bundled:smollm2-135m-instruct, "),
    ({"read_site": "resid_post.4"}, UnknownSite, "layer=4; .* has 0..3"),
    ({"read_site": "residual.1"}, UnknownSite, "site='residual.1'; must be KIND.LAYER with KIND one of resid_pre"),
    ({"write_site": "resid_post.-1"}, UnknownSite, "site='resid_post.-1'; must be"),
    ({"write_site": "mlp_out.99"}, UnknownSite, "layer=99; .* has 0..3"),
    ({"encoder": Encoder(kind="topk")}, BadWeights, r"k=None; a topk encoder needs k in 1\.\.6"),
    ({"encoder": Encoder(kind="topk", k=7)}, BadWeights, r"k=7; a topk encoder needs k in 1\.\.6"),
    (
        {"read_site": "mlp_hidden.1", "encoder": Encoder(kind="neurons"), "n_features": 17},
        ShapeMismatch,
        "n_features=17; mlp_hidden.1 of .* has 16: submit all",
    ),
    (
        {"read_site": "resid_post.1", "encoder": Encoder(kind="neurons"), "n_features": 8},
        InvalidInput,
        "read_site='resid_post.1', write_site=None; neurons are read and written at mlp_hidden.LAYER",
    ),
]


def test_what_the_subject_does_not_have_is_refused(api: Api, spec_of: SpecMaker) -> None:
    for changes, error, message in UNFIT:
        with pytest.raises(error, match=message):
            api.client.submit_dictionary(spec_of(**changes))
        assert list(api.client.dictionaries()) == []


def test_wrong_fields_are_all_named_with_their_values(api: Api, spec_of: SpecMaker) -> None:
    body = {**spec_of().model_dump(mode="json"), "n_features": 0, "encoder": {"kind": "sigmoid"}, "colour": "red"}
    response = api.http.post("/v1/dictionaries", json=body)
    detail = api.problem(response, 422, "InvalidInput")
    assert "body.n_features: Input should be greater than or equal to 1, and not 0" in detail
    assert "body.encoder.kind: Input should be 'relu', 'topk'" in detail
    assert "body.colour: Extra inputs are not permitted" in detail
    assert {field["field"] for field in response.json()["errors"]} == {
        "body.n_features",
        "body.encoder.kind",
        "body.colour",
    }


def test_a_body_that_is_not_json_is_refused(api: Api) -> None:
    response = api.http.post("/v1/dictionaries", content=b'{"name": ', headers={"Content-Type": "application/json"})
    assert "JSON decode error" in api.problem(response, 422, "InvalidInput")


def test_a_body_without_a_media_type_is_refused_with_what_to_send(api: Api, spec_of: SpecMaker) -> None:
    response = api.http.post("/v1/dictionaries", content=spec_of().model_dump_json())
    assert "Content-Type: application/json" in api.problem(response, 422, "InvalidInput")


NOT_SAFETENSORS = [
    (b"", "must be safetensors: its first 8 bytes are no header length"),
    (pickle.dumps({"w_dec": [1.0]}), "this is a pickle (or a zip of one); convert it with glossarium submit"),
    (b"PK\x03\x04" + bytes(100), "this is a pickle (or a zip of one); convert it with glossarium submit"),
    (GOOD[:-1], f"is truncated: {len(GOOD) - 1} bytes, its header needs {len(GOOD)}"),
    (GOOD[:100], "is truncated: 100 bytes"),
    ((2**62).to_bytes(8, "little") + b"{}", "must be safetensors: its first 8 bytes are no header length"),
    (b"\x02\0\0\0\0\0\0\0[]", "its header is no JSON object"),
]


def test_a_file_that_is_not_safetensors_leaves_nothing(api: Api, waiting: Dictionary) -> None:
    for body, message in NOT_SAFETENSORS:
        detail = api.problem(api.http.put(weights_url(waiting), content=body), 422, "BadWeights")
        assert message in detail
        assert still_waits(api, waiting)


def test_a_tensor_of_another_width_is_refused_with_both_shapes(api: Api, waiting: Dictionary) -> None:
    response = api.http.put(weights_url(waiting), content=safetensors(weights(width=9)))
    detail = api.problem(response, 422, "ShapeMismatch")
    assert "9" in detail
    assert "8" in detail
    assert still_waits(api, waiting)


def test_another_number_of_features_is_refused_with_both(api: Api, waiting: Dictionary) -> None:
    response = api.http.put(weights_url(waiting), content=safetensors(weights(n_features=5)))
    detail = api.problem(response, 422, "ShapeMismatch")
    assert "5" in detail
    assert "6" in detail
    assert still_waits(api, waiting)


NOT_FINITE = [np.nan, np.inf]


def test_a_weight_that_is_not_finite_is_refused_by_name(api: Api, waiting: Dictionary) -> None:
    for value in NOT_FINITE:
        tensors = weights()
        tensors["w_enc"][3, 2] = value
        detail = api.problem(api.http.put(weights_url(waiting), content=safetensors(tensors)), 422, "NotFinite")
        assert "w_enc" in detail
        assert still_waits(api, waiting)


def test_a_missing_tensor_is_refused_by_name(api: Api, waiting: Dictionary) -> None:
    tensors = weights()
    del tensors["w_enc"]
    response = api.http.put(weights_url(waiting), content=safetensors(tensors))
    assert "w_enc" in response.json()["detail"]
    assert response.status_code == 422
    assert still_waits(api, waiting)


def test_an_upload_over_the_limit_is_refused_with_both_sizes(api: Api, waiting: Dictionary) -> None:
    response = api.http.put(weights_url(waiting), content=bytes(MAX_UPLOAD + 1))
    detail = api.problem(response, 413, "TooLarge")
    assert detail.startswith(
        "the upload has 100,001 bytes; the limit is 100,000 bytes (the operator sets GLOSSARIUM_MAX"
    )
    assert still_waits(api, waiting)


def test_an_upload_without_a_length_is_stopped_at_the_limit(api: Api, waiting: Dictionary) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(11):
            yield bytes(10_000)

    response = api.http.put(weights_url(waiting), content=chunks())
    detail = api.problem(response, 413, "TooLarge")
    assert detail.startswith("at least 110,000 bytes came; the limit is 100,000 bytes (the operator sets")
    assert still_waits(api, waiting)


WRONG_CHECKSUMS = [
    {"X-Content-SHA256": "0" * 64},
    {"Content-Digest": f"sha-256=:{base64.b64encode(bytes(32)).decode()}:"},
    {"Digest": f"sha-256={base64.b64encode(bytes(32)).decode()}"},
]


def test_a_wrong_checksum_is_refused_with_both(api: Api, waiting: Dictionary) -> None:
    for headers in WRONG_CHECKSUMS:
        response = api.http.put(weights_url(waiting), content=GOOD, headers=headers)
        detail = api.problem(response, 422, "InvalidInput")
        assert detail == f"the upload has sha256 {hashlib.sha256(GOOD).hexdigest()} and not {'0' * 64}; send it again"
        assert still_waits(api, waiting)


def test_right_checksums_are_taken_in_every_form(api: Api, spec_of: SpecMaker) -> None:
    sha = hashlib.sha256(GOOD)
    text = base64.b64encode(sha.digest()).decode()
    for headers in (
        {"X-Content-SHA256": sha.hexdigest().upper()},
        {"Content-Digest": f"md5=:AAAA:, sha-256=:{text}:"},
        {"Digest": f"SHA-256={text}"},
    ):
        dictionary = api.client.submit_dictionary(spec_of())
        assert api.http.put(weights_url(dictionary), content=GOOD, headers=headers).status_code == 200


def test_a_checksum_that_is_none_is_refused(api: Api, waiting: Dictionary) -> None:
    response = api.http.put(weights_url(waiting), content=GOOD, headers={"X-Content-SHA256": "abc"})
    assert "checksum='abc' is not a sha256" in api.problem(response, 422, "InvalidInput")


def test_a_connection_that_breaks_off_leaves_nothing(api: Api, waiting: Dictionary) -> None:
    place = urlsplit(api.url)
    assert place.hostname
    assert place.port
    head = f"PUT {weights_url(waiting)} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {api.key}\r\n"
    head += f"Content-Length: {len(GOOD)}\r\n\r\n"
    with socket.create_connection((place.hostname, place.port)) as connection:
        connection.sendall(head.encode() + GOOD[: len(GOOD) // 2])
        deadline = time.monotonic() + 10
        while not api.files():
            assert time.monotonic() < deadline
            time.sleep(0.01)
    deadline = time.monotonic() + 10
    while api.files():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert still_waits(api, waiting)


def test_other_weights_for_a_ready_dictionary_are_a_conflict(api: Api, waiting: Dictionary) -> None:
    assert api.http.put(weights_url(waiting), content=GOOD).status_code == 200
    others = weights()
    others["b_enc"][0] = 1.0
    response = api.http.put(weights_url(waiting), content=safetensors(others))
    assert "submit a new dictionary" in api.problem(response, 409, "Conflict")
    assert len(api.files()) == 1


def test_neurons_take_no_weights(api: Api, neurons: Dictionary) -> None:
    response = api.http.put(weights_url(neurons), content=GOOD)
    assert "is of neurons" in api.problem(response, 409, "Conflict")
    assert api.files() == []


def test_weights_for_no_dictionary_are_not_found(api: Api) -> None:
    id_ = uuid.uuid4()
    response = api.http.put(f"/v1/dictionaries/{id_}/weights", content=GOOD)
    assert api.problem(response, 404, "NotFound") == f"no dictionary {id_}"
    assert api.files() == []


def test_lists_come_in_pages(api: Api, spec_of: SpecMaker) -> None:
    made = [api.client.submit_dictionary(spec_of(name=f"d{number}")) for number in range(3)]
    first = api.http.get("/v1/dictionaries", params={"limit": 2}).json()
    second = api.http.get("/v1/dictionaries", params={"limit": 2, "cursor": first["next_cursor"]}).json()
    assert [item["id"] for item in first["items"] + second["items"]] == [str(row.id) for row in reversed(made)]
    assert second["next_cursor"] is None
    assert list(api.client.dictionaries()) == made[::-1]


def test_health_is_that_of_the_newest_run_that_measured_it(api: Api, neurons: Dictionary) -> None:
    terms = RunSpec.model_validate({"dictionary_id": neurons.id, **TERMS})
    first, second, _ = (api.client.submit_run(terms, f"run {n}").id for n in range(3))
    with pytest.raises(NotFound, match=f"no run has measured the health of dictionary {neurons.id}"):
        api.client.dictionary_health(neurons.id)
    for run_id, fvu in ((second, 0.25), (first, 0.5)):
        measure(api.settings.database_url, run_id, fvu=fvu)
        found = api.client.dictionary_health(neurons.id)
        assert (found.run_id, found.fvu) == (second, 0.25)


def test_a_deleted_dictionary_is_not_found(api: Api, neurons: Dictionary) -> None:
    api.client.delete_dictionary(neurons.id)
    with pytest.raises(NotFound, match=f"no dictionary {neurons.id}"):
        api.client.dictionary(neurons.id)
    with pytest.raises(NotFound):
        api.client.delete_dictionary(neurons.id)


def test_the_same_key_makes_one_dictionary(api: Api, spec_of: SpecMaker) -> None:
    first = api.client.submit_dictionary(spec_of(), "key")
    assert api.client.submit_dictionary(spec_of(), "key") == first
    assert api.client.submit_dictionary(spec_of(), "another key") != first
    with pytest.raises(Conflict, match="Idempotency-Key 'key' came with another request before; use a new key"):
        api.client.submit_dictionary(spec_of(name="other"), "key")
    assert len(list(api.client.dictionaries())) == 2


def test_what_is_another_tenants_is_not_found(api: Api, neurons: Dictionary, spec_of: SpecMaker) -> None:
    with psycopg.connect(api.settings.database_url, autocommit=True) as connection:
        connection.execute("INSERT INTO tenant (id, name) VALUES (2, 'other')")
    api.app.dependency_overrides[current_tenant] = lambda: 2
    for path in ("", "/features", "/features/0", "/features/0/labels", "/labels"):
        response = api.http.get(f"/v1/dictionaries/{neurons.id}{path}")
        assert api.problem(response, 404, "NotFound") == f"no dictionary {neurons.id}"
    assert api.problem(api.http.delete(f"/v1/dictionaries/{neurons.id}"), 404, "NotFound")
    assert api.problem(api.http.put(weights_url(neurons), content=GOOD), 404, "NotFound")
    assert list(api.client.dictionaries()) == []
