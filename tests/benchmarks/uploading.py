"""Uploads: what memory the API takes for weights of two gigabytes."""

import json
import resource
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from schema.records import DictionarySpec, Encoder
from schema.settings import Settings
from schema.subjects import BUNDLED
from service.client import Client
from tests.benchmarks.claiming import running_postgres
from tests.benchmarks.measure import Row, timed
from tests.service.conftest import serving

_WIDTH = 576  # of the bundled subject
_FEW, _MANY = 10_000, 900_000
_AT_ONCE = 10_000
MOST_MB = 100


def uploading() -> Iterator[Row]:
    """Yield by how much the peak memory of API and client grows from an upload of 23 MB to one of 2 GB."""
    with running_postgres() as postgres, tempfile.TemporaryDirectory(prefix="glossarium-bench-") as scratch:
        folder = Path(scratch)
        settings = Settings(database_url=postgres.url, redis_url="redis://127.0.0.1:1/0", data_dir=folder / "data")
        with serving(settings) as api:
            few, many = (_directions(folder / f"{n}.safetensors", n) for n in (_FEW, _MANY))
            _upload(api.client, few, _FEW)
            before = _peak_mb()
            seconds = timed(lambda: _upload(api.client, many, _MANY)).seconds
            grown, name = _peak_mb() - before, f"upload of {many.stat().st_size / 1e9:.1f} GB, checked and stored"
            target = f"<= {MOST_MB}"
            ratio = grown / MOST_MB
            yield Row(
                f"{name}: memory on top", grown, MOST_MB, ratio, "MB", target, ratio <= 1, "memory against the target"
            )
            speed = many.stat().st_size / 1e6 / seconds
            yield Row(name, speed, speed, 1.0, "MB/s", "none", None, "itself")


def _directions(path: Path, n: int) -> Path:
    """Write n plain directions, some thousand at a time."""
    entry = {"dtype": "F32", "shape": [n, _WIDTH], "data_offsets": [0, 4 * n * _WIDTH]}
    header = json.dumps({"w_dec": entry}).encode()
    block = np.random.default_rng(0).normal(size=(_AT_ONCE, _WIDTH)).astype(np.float32).tobytes()
    with path.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        for _ in range(n // _AT_ONCE):
            file.write(block)
    return path


def _upload(client: Client, weights: Path, n: int) -> None:
    spec = DictionarySpec(
        name=weights.stem, subject=BUNDLED, read_site="resid_post.14", encoder=Encoder(kind="linear"), n_features=n
    )
    client.upload_weights(client.submit_dictionary(spec).id, weights)


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
