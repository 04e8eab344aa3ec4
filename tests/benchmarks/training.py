"""Makes the dictionary that records are packed with: `python -m tests.benchmarks.training`.

It is trained on evidence of MLP neurons on the bundled corpus, so never on what `storing` measures: another kind of
feature, other texts. A new dictionary is a new version of the format, for it decides the bytes of every record.
"""

from itertools import islice
from pathlib import Path

import zstandard

from schema.packing import VERSION, body_of
from schema.records import DictionarySpec, Encoder
from schema.settings import load_settings
from schema.subjects import BUNDLED
from tests.benchmarks.setting import corpus
from tests.benchmarks.storing import evidence
from tests.dev_data import VARIABLE, dev_data
from workers.dictionary import firing_thresholds, load_dictionary
from workers.loading import load_subject
from workers.opened import Opened

_LAYERS = (8, 20)
_TOKENS, _FEATURES = 30_000, 24  # a layer
_BYTES = 112_640
_FILE = Path(__file__).parents[2] / "schema" / "data" / f"packing.v{VERSION}.zdict"


def main() -> None:
    """Train the dictionary and write it."""
    if dev_data() is not None:
        raise SystemExit(f"{VARIABLE} is set; the dictionary is trained on the bundled corpus alone")
    found = [evidence(neurons(layer), _TOKENS, _FEATURES) for layer in _LAYERS]
    bodies = [body_of(record) for kinds in found for records in kinds.values() for record in records]
    _FILE.write_bytes(zstandard.train_dictionary(_BYTES, bodies, level=19).as_bytes())


def neurons(layer: int) -> Opened:
    """Return the neurons of a layer, with their thresholds on the beginning of the corpus."""
    subject = load_subject(BUNDLED, None, load_settings())
    site, n_features = f"mlp_hidden.{layer}", subject.facts.d_mlp
    spec = DictionarySpec(
        name="neurons", subject=BUNDLED, read_site=site, encoder=Encoder(kind="neurons"), n_features=n_features
    )
    dictionary = load_dictionary(spec, subject, None)
    batch = subject.batch([context.ids for context in islice(corpus(), 64)])
    activations = dictionary.encode(subject.read(batch, dictionary.read_site))[batch.counted]
    return Opened(subject, dictionary.with_threshold(firing_thresholds(activations)))


if __name__ == "__main__":
    main()
