"""Submits what was converted: the spec, the weights and the labels of its authors, all of it or nothing."""

from collections.abc import Iterator
from contextlib import contextmanager

from schema.errors import GlossariumError
from schema.records import Dictionary
from schema.wire import ImportedLabel
from service import progress
from service.client import Client
from service.conversion import Conversion
from service.terminal import err


def submit(client: Client, converted: Conversion) -> Dictionary:
    """Return the dictionary that was made. Raises what the client raises; nothing is left behind then."""
    with undone(client) as made:
        made.append(client.submit_dictionary(converted.spec))
        if converted.weights is not None:
            with progress.transfer(err, converted.weights) as report:
                made[0] = client.upload_weights(made[0].id, converted.weights, report)
        if converted.labels is not None:
            with converted.labels.open(encoding="utf-8") as lines:
                labels = (ImportedLabel.model_validate_json(line) for line in lines)
                imported = client.import_labels(made[0].id, labels, converted.spec.source)
            said = (
                f"{imported.n_labels} labels of its authors; test them with `glossarium run --methods lexical,imported`"
            )
            err.print(said, markup=False, highlight=False, soft_wrap=True)
    return made[0]


@contextmanager
def undone(client: Client) -> Iterator[list[Dictionary]]:
    """Lend a list of dictionaries that are deleted again if anything goes wrong, Ctrl-C included."""
    made: list[Dictionary] = []
    try:
        yield made
    except BaseException:
        for dictionary in made:
            try:
                client.delete_dictionary(dictionary.id)
            except GlossariumError as exc:
                err.print(f"dictionary {dictionary.id} is left behind: {exc}", markup=False, soft_wrap=True)
        raise
