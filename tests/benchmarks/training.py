"""Makes the dictionary that records are packed with: `python -m tests.benchmarks.training`.

It is trained on evidence of MLP neurons on the bundled corpus, so never on what `storing` measures: another kind of
feature, other texts. A new dictionary is a new version of the format, for it decides the bytes of every record.
"""

from itertools import islice
from pathlib import Path

import zstandard

from schema.packing import VERSION, body_of, body_of_texts
from schema.records import DictionarySpec, Encoder
from schema.settings import load_settings
from schema.subjects import BUNDLED, Site
from tests.benchmarks.setting import corpus
from tests.benchmarks.storing import acting_of, exemplars_of, firing
from tests.dev_data import VARIABLE, dev_data
from workers.dictionary import firing_thresholds, load_dictionary
from workers.loading import load_subject
from workers.methods.exemplar_records import records
from workers.opened import Opened

_LAYER, _TOKENS, _N, _N_CONTEXTS = 8, 30_000, 96, 480  # contexts: all of the bundled corpus
_STEERED = (5, 305, 605, 905, 1205, 77, 401, 909)
_WEIGHT = 24  # of the small kinds; with 12, exemplars and contexts fill the dictionary and their prompts are not in it
_BYTES = 112_640
_FILE = Path(__file__).parents[2] / "schema" / "data" / f"packing.v{VERSION}.zdict"


def main() -> None:
    """Train the dictionary and write it."""
    if dev_data() is not None:
        raise SystemExit(f"{VARIABLE} is set; the dictionary is trained on the bundled corpus alone")
    of = neurons(_LAYER)
    seen = exemplars_of(of, _TOKENS)
    exemplars = [body_of(record) for record in records(seen, firing(seen, _N))]
    texts = [body_of_texts(of.subject.pieces(context.ids)) for context in islice(corpus(), _N_CONTEXTS)]
    small = [body_of(record) for made in acting_of(of, _STEERED).values() for record in made]
    bodies = exemplars + texts + _WEIGHT * small
    _FILE.write_bytes(zstandard.train_dictionary(_BYTES, bodies, level=19).as_bytes())


def neurons(layer: int) -> Opened:
    """Return the neurons of a layer, with their thresholds on the beginning of the corpus."""
    subject = load_subject(BUNDLED, None, load_settings())
    site = f"mlp_hidden.{layer}"
    n_features = subject.width(Site.parse(site))
    spec = DictionarySpec(
        name="neurons", subject=BUNDLED, read_site=site, encoder=Encoder(kind="neurons"), n_features=n_features
    )
    dictionary = load_dictionary(spec, subject, None)
    batch = subject.batch([context.ids for context in islice(corpus(), 64)])
    activations = dictionary.encode(subject.read(batch, dictionary.read_site))[batch.counted]
    return Opened(subject, dictionary.with_threshold(firing_thresholds(activations)))


if __name__ == "__main__":
    main()
