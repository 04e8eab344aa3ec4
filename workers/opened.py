"""A run's subject and dictionary, loaded once per process and kept while jobs of the same run come in."""

from collections import OrderedDict
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import torch

from schema.blobs import open_blobs
from schema.collections import FEATURES_PER_PASS
from schema.errors import NotFound
from schema.records import Dictionary
from schema.settings import Settings
from schema.store import artifacts
from schema.store.run_features import Brief
from workers import recipes
from workers.dictionary import LoadedDictionary, load_dictionary
from workers.engine import Context
from workers.loading import load_subject
from workers.sources import weights_path
from workers.subject import Subject


class Opened(NamedTuple):
    """A subject and a dictionary of it."""

    subject: Subject
    dictionary: LoadedDictionary


def open_unthresholded(context: Context, brief: Brief) -> Opened:
    """Return the subject and the dictionary as it was uploaded. Raises InvalidInput if they do not fit."""
    return open_uploaded(context.settings, brief.dictionary)


def open_uploaded(settings: Settings, record: Dictionary) -> Opened:
    """Return what `open_unthresholded` does, of a dictionary that need not be that of a run."""
    subject = load_subject(record.spec.subject, record.spec.revision, settings)
    return Opened(subject, _shelf.get(Place(record, subject, weights_path(settings, record))))


def open_dictionary(context: Context, brief: Brief, corpus: str) -> Opened:
    """Return the subject and the dictionary with the firing thresholds that ingest measured on the corpus."""
    subject, dictionary = open_unthresholded(context, brief)
    if not dictionary.needs_thresholds:
        return Opened(subject, dictionary)
    recipe = recipes.thresholds(brief, corpus)
    with context.transaction() as connection:
        sha256 = artifacts.get(connection, recipe)
    if sha256 is None:
        raise NotFound(f"the firing thresholds of dictionary {brief.dictionary.id} are gone (recipe {recipe})")
    return Opened(subject, _with_threshold(dictionary, context.settings, sha256))


class Place(NamedTuple):
    """A dictionary of a subject, and the file of its weights; two of one digest are one."""

    record: Dictionary
    subject: Subject
    weights: Path | None

    def __hash__(self) -> int:
        return hash((self.record.digest, id(self.subject)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Place) and self.record.digest == other.record.digest and self.subject is other.subject


class Shelf:
    """The dictionaries of one subject that were used last: as many as a corpus pass reads at once, and two at least."""

    def __init__(self, n_features: int = FEATURES_PER_PASS) -> None:
        """Keep dictionaries of so many features together."""
        self._most = n_features
        self._kept: OrderedDict[Place, LoadedDictionary] = OrderedDict()

    def get(self, place: Place) -> LoadedDictionary:
        """Return a dictionary, loaded unless it is still here."""
        if place not in self._kept:
            for other in [other for other in self._kept if other.subject is not place.subject]:
                del self._kept[other]  # or it keeps its subject in memory
            self._kept[place] = load_dictionary(place.record, place.subject, place.weights)
        self._kept.move_to_end(place)
        while len(self._kept) > 2 and self._n_features() > self._most:
            self._kept.popitem(last=False)
        return self._kept[place]

    def _n_features(self) -> int:
        return sum(dictionary.n_features for dictionary in self._kept.values())


_shelf = Shelf()


@lru_cache(maxsize=2)
def _with_threshold(dictionary: LoadedDictionary, settings: Settings, sha256: str) -> LoadedDictionary:
    with open_blobs(settings).open(sha256) as file:
        return dictionary.with_threshold(torch.frombuffer(bytearray(file.read()), dtype=torch.float32))
