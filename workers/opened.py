"""A run's subject and dictionary, loaded once per process and kept while jobs of the same run come in."""

from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import torch

from schema.blobs import open_blobs
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
    spec = brief.dictionary.spec
    subject = load_subject(spec.subject, spec.revision, context.settings)
    return Opened(subject, _load(_Place(brief.dictionary, subject, weights_path(context, brief))))


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


class _Place(NamedTuple):
    record: Dictionary
    subject: Subject
    weights: Path | None

    def __hash__(self) -> int:
        return hash((self.record.digest, id(self.subject)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Place) and self.record.digest == other.record.digest and self.subject is other.subject


@lru_cache(maxsize=2)
def _load(place: _Place) -> LoadedDictionary:
    return load_dictionary(place.record, place.subject, place.weights)


@lru_cache(maxsize=2)
def _with_threshold(dictionary: LoadedDictionary, settings: Settings, sha256: str) -> LoadedDictionary:
    with open_blobs(settings).open(sha256) as file:
        return dictionary.with_threshold(torch.frombuffer(bytearray(file.read()), dtype=torch.float32))
