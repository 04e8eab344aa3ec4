"""Lookups over HTTP: the labels of many features of many dictionaries at once, and the features that are like one."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Body, Query, Response

from schema.evidence import VocabularyProjection
from schema.lookups import LabelsFound, LabelsWanted, SimilarFeature, SimilarFeatures, SimilarQuery
from schema.store import dictionaries, evidence, features, labels
from schema.store.database import Connection
from service import examples, label_examples
from service.auth import needs
from service.bodies import Strict
from service.deps import Held, Index, Tenant, check_index

router = APIRouter(prefix="/v1", responses=examples.PROBLEMS)

_NO_EVIDENCE = "no run has compared the directions of this dictionary for this feature yet; label it with `vocabulary`"


@router.post(
    "/labels/bulk", tags=["labels"], response_model=LabelsFound, responses=examples.ok(label_examples.LABELS_FOUND)
)
@needs("read")
def find_labels(
    wanted: Annotated[LabelsWanted, Body(openapi_examples=label_examples.LABELS_WANTED), Strict()],
    held: Held,
    tenant_id: Tenant,
) -> Response:
    """Look up the current labels of up to 10,000 features of any dictionaries, in one call and their order.

    Nothing is stored: it can be repeated safely without a key.
    """
    items = held.database.run(lambda connection: labels.brief(connection, tenant_id, wanted.features))
    return Response(f'{{"items":{items}}}', media_type="application/json")


@router.get(
    "/dictionaries/{dictionary_id}/features/{index}/similar",
    tags=["features"],
    responses=examples.ok(label_examples.SIMILAR_FEATURES),
)
def list_similar_features(
    dictionary_id: UUID, index: Index, query: Annotated[SimilarQuery, Query()], held: Held, tenant_id: Tenant
) -> SimilarFeatures:
    """List the features of the dictionary whose write directions are most like a feature's, the nearest first."""

    def work(connection: Connection) -> SimilarFeatures:
        check_index(dictionaries.get(connection, tenant_id, dictionary_id), index)
        return _similar(connection, dictionary_id, index, query.limit)

    return held.database.run(work)


def _similar(connection: Connection, dictionary_id: UUID, index: int, limit: int) -> SimilarFeatures:
    found = evidence.latest_of(connection, dictionary_id, index, index + 1, ["vocabulary"]).get(index, {})
    projection = found.get("vocabulary")
    if not isinstance(projection, VocabularyProjection):
        return SimilarFeatures(items=(), reason=_NO_EVIDENCE)
    known = features.load(connection, dictionary_id, projection.neighbours[:limit])
    near = zip(projection.neighbours[:limit], projection.cosines, strict=False)
    items = tuple(SimilarFeature(cosine=cosine, feature=known[one]) for one, cosine in near if one in known)
    return SimilarFeatures(items=items, reason=None if items else "its write direction has no length")
