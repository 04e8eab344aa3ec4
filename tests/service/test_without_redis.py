"""What is submitted is answered soon while Redis is away, and while it is there and says nothing."""

import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from schema.settings import Settings
from tests.service.conftest import D_MLP, SpecMaker, serving

SUBMITTED_S = 1.5
N_REQUESTS, AT_ONCE = 40, 4


@pytest.fixture(params=["refuses", "says nothing", "is not there"])
def no_redis(request: pytest.FixtureRequest) -> Iterator[str]:
    """Yield the URL of a Redis that does not answer."""
    with socket.socket() as there:
        there.bind(("127.0.0.1", 0))
        if request.param == "says nothing":
            there.listen()
        elif request.param == "is not there":  # and neither is anybody who would say so
            there.listen(0)
        with socket.socket() as filling:
            if request.param == "is not there":
                filling.connect(there.getsockname())
            yield f"redis://127.0.0.1:{there.getsockname()[1]}/0"


def test_submitting_takes_a_second_and_a_half_at_most(no_redis: str, settings: Settings, spec_of: SpecMaker) -> None:
    neurons = spec_of(read_site="mlp_hidden.1", encoder={"kind": "neurons"}, n_features=D_MLP).model_dump(mode="json")
    with serving(settings.model_copy(update={"redis_url": no_redis})) as api:
        run = {"dictionary_id": api.http.post("/v1/dictionaries", json=neurons).json()["id"], "features": "0-1"}

        def submit(n: int) -> float:
            began = time.monotonic()
            with httpx.Client(base_url=api.url, headers=api.http.headers, timeout=30) as http:
                path, body = (("/v1/runs", run), ("/v1/dictionaries", neurons))[n % 2]
                assert http.post(path, json=body).status_code == 201
            return time.monotonic() - began

        with ThreadPoolExecutor(AT_ONCE) as threads:
            seconds = sorted(threads.map(submit, range(N_REQUESTS)))
    assert seconds[int(0.95 * N_REQUESTS)] < SUBMITTED_S
