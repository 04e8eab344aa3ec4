"""Examples of searches for the API's documentation. A test holds each against its record."""

from service.examples import DICTIONARY, Example
from service.feature_examples import FEATURE_SUMMARY

_HIT: Example = {
    "dictionary_id": DICTIONARY["id"],
    "feature": FEATURE_SUMMARY,
    "score": 0.0325,
    "why": ["word", "meaning"],
    "similarity": 0.71,
}
SEARCH_PAGE: Example = {"items": [_HIT], "next_cursor": None, "note": None}
_TOKEN_HIT: Example = {
    "dictionary_id": DICTIONARY["id"],
    "feature": FEATURE_SUMMARY,
    "ranks": [{"source": "vocabulary", "rank": 1}, {"source": "token_change", "rank": 3}],
}
TOKEN_PAGE: Example = {"items": [_TOKEN_HIT], "next_cursor": None, "near": [" River", "river"]}
