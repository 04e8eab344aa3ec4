"""What an archive is written from: lines of JSON, put together of what the database says without taking it apart.

A description's body, say, is passed on as the text that Postgres makes of it. This makes exports fast; what comes in is
held against the records (`schema/archives.py`) before any of it is stored (`schema/store/unpacking.py`).
"""

import base64
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple
from uuid import UUID

from schema.archives import stamp
from schema.store.database import Connection
from schema.store.exports import Range
from schema.store.queries import load_queries

_CONTEXTS = 2000  # at a time

_queries = load_queries("archives")

Lines = dict[int, list[str]]
"""Parts of lines, by feature (or by description)."""


class Run(NamedTuple):
    """A run and its line."""

    id: UUID
    line: str


class BlockLines(NamedTuple):
    """The lines of a block, and the readings that its exemplars refer to: recipes by id."""

    lines: list[str]
    readings: dict[int, str]


def runs(connection: Connection, dictionary_id: UUID) -> list[Run]:
    """Return the runs of a dictionary, the oldest first; their numbers are their places."""
    return [_run(*row) for row in _queries.runs(connection, dictionary_id=dictionary_id)]


def block(connection: Connection, dictionary_id: UUID, some: Range, numbers: Mapping[UUID, int]) -> BlockLines:
    """Return the lines of some features: their provenance first, then one a feature.

    numbers:  of the dictionary's runs.
    """
    names = {"dictionary_id": dictionary_id, **some._asdict()}
    pieces, documents, readings = _evidence(connection, names)
    described, places = _descriptions(connection, names)
    scored = _scores(connection, names, places)
    labelled, ids = _labels(connection, names, numbers, places)
    members: Lines = defaultdict(list)
    for feature, run_id, position, selected, pooled, label_id in _queries.members(connection, **names):
        place = {"run": numbers[run_id], "position": position, "selected": selected, "pooled": pooled}
        members[feature].append(json.dumps({**place, "label": ids.get(label_id)}))
    lines = [_object(provenance=_list(documents))]
    for feature, density, max_activation, label_id in _queries.features(connection, **names):
        lines.append(
            _object(
                feature=str(feature),
                density=json.dumps(density),
                max_activation=json.dumps(max_activation),
                current=_number(ids.get(label_id)),
                evidence=_list(pieces[feature]),
                descriptions=_list(described[feature]),
                scores=_list(scored[feature]),
                labels=_list(labelled[feature]),
                runs=_list(members[feature]),
            )
        )
    return BlockLines(lines, readings)


def contexts(connection: Connection, reading_id: int) -> Iterator[list[str]]:
    """Yield the lines of a reading's contexts, some at a time, by number."""
    after = -1
    while rows := list(_queries.contexts(connection, reading_id=reading_id, after=after, most=_CONTEXTS)):
        yield [_object(number=str(number), tokens=_bytes(tokens)) for number, tokens in rows]
        after = rows[-1][0]


def own_recipe(recipe: str) -> str:
    """Return the recipe that a reading had where it was made: without the prefix of imported ones."""
    return recipe.rpartition(":")[2]


class _Evidence(NamedTuple):
    pieces: Lines
    documents: list[str]
    readings: dict[int, str]


def _evidence(connection: Connection, names: Mapping[str, Any]) -> _Evidence:
    # In binary: as text, the payloads alone would be twice as long.
    rows = connection.execute(_queries.evidence.sql, names, binary=True).fetchall()
    ids = list(dict.fromkeys(row[5] for row in rows))
    documents = dict(_queries.provenance(connection, ids=ids))
    places = _Places(documents)
    pieces: Lines = defaultdict(list)
    for feature, kind, recipe, payload, created_at, provenance_id, _, reading in rows:
        pieces[feature].append(
            _object(
                kind=_text(kind),
                recipe=_text(recipe),
                payload=_bytes(payload),
                created_at=_time(created_at),
                provenance=str(places.place(provenance_id)),
                reading="null" if reading is None else _text(own_recipe(reading)),
            )
        )
    return _Evidence(pieces, places.texts, {row[6]: own_recipe(row[7]) for row in rows if row[6] is not None})


class _Places:
    """Documents in the order of their first use; equal ones once, so that their ids make no difference."""

    def __init__(self, documents: Mapping[int, str]) -> None:
        self._documents = documents
        self._known: dict[str, int] = {}

    @property
    def texts(self) -> list[str]:
        """Return the documents by place."""
        return list(self._known)

    def place(self, id_: int) -> int:
        """Return the place of a document."""
        return self._known.setdefault(self._documents[id_], len(self._known))


class _Placed(NamedTuple):
    """Lines by feature, and the place of each row in the list of its feature, by id."""

    lines: Lines
    places: dict[int, int]


def _descriptions(connection: Connection, names: Mapping[str, Any]) -> _Placed:
    rows = list(_queries.descriptions(connection, **names))
    written: Lines = defaultdict(list)
    for description_id, body, created_at in _queries.sentences(connection, ids=[row[1] for row in rows]):
        written[description_id].append(_object(body=body, created_at=_time(created_at)))
    lines: Lines = defaultdict(list)
    places: dict[int, int] = {}
    for feature, id_, body, created_at in rows:
        places[id_] = len(lines[feature])
        lines[feature].append(_object(body=body, created_at=_time(created_at), sentences=_list(written[id_])))
    return _Placed(lines, places)


def _scores(connection: Connection, names: Mapping[str, Any], places: Mapping[int, int]) -> Lines:
    rows = [(row[0], row[4], places.get(row[1], -1), row[5], row) for row in _queries.scores(connection, **names)]
    lines: Lines = defaultdict(list)
    for *_, (feature, description_id, body, created_at, _, _) in sorted(rows, key=lambda row: row[:4]):
        place = _number(places.get(description_id))
        lines[feature].append(_object(body=body, created_at=_time(created_at), description=place))
    return lines


def _labels(
    connection: Connection, names: Mapping[str, Any], numbers: Mapping[UUID, int], described: Mapping[int, int]
) -> _Placed:
    lines: Lines = defaultdict(list)
    places: dict[int, int] = {}
    for feature, id_, run_id, author, recipe, created_at, description_id, body in _queries.labels(connection, **names):
        places[id_] = len(lines[feature])
        lines[feature].append(
            _object(
                body=body,
                author=_text(author),
                recipe=_text(recipe),
                created_at=_time(created_at),
                run=_number(numbers.get(run_id)),
                description=_number(described.get(description_id)),
            )
        )
    return _Placed(lines, places)


def _run(
    id_: UUID,
    spec: str,
    state: str,
    note: str | None,
    created_at: datetime,
    started_at: datetime | None,
    finished_at: datetime | None,
    n_features: int | None,
    llms: str | None,
    ingredients: str | None,
    report: str | None,
    reported_at: datetime | None,
) -> Run:
    line = _object(
        spec=spec,
        state=json.dumps(state),
        note=json.dumps(note),
        created_at=_time(created_at),
        started_at=_time(started_at),
        finished_at=_time(finished_at),
        n_features=json.dumps(n_features),
        llms=llms or "null",
        ingredients=ingredients or "null",
        report=report or "null",
        reported_at=_time(reported_at),
    )
    return Run(id_, line)


def _object(**fields: str) -> str:
    """Return a JSON object of fields that are JSON already."""
    return "{" + ",".join(f'"{name}":{text}' for name, text in fields.items()) + "}"


def _list(items: list[str]) -> str:
    return f"[{','.join(items)}]"


def _bytes(data: bytes) -> str:
    return f'"{base64.b64encode(data).decode()}"'


def _time(moment: datetime | None) -> str:
    return "null" if moment is None else f'"{stamp(moment)}"'


def _number(value: int | None) -> str:
    return "null" if value is None else str(value)


@lru_cache(maxsize=4096)
def _text(text: str) -> str:
    """Return a text as JSON; recipes, kinds and authors come again with every feature."""
    return json.dumps(text)
