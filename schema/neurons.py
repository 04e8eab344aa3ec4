"""Dictionaries without weights: the MLP neurons of a layer, and the coordinates of its attention heads' outputs."""

from schema.errors import UnknownSite
from schema.records import DictionarySpec, Encoder
from schema.subjects import Site, SubjectFacts, width

KINDS = {"neurons": "mlp_hidden", "heads": "attn_heads"}
"""What a user calls them, and the kind of site that they are."""


def neurons_spec(
    word: str,
    facts: SubjectFacts,
    *,
    layer: int | None = None,
    site: str | None = None,
    name: str | None = None,
    revision: str | None = None,
) -> DictionarySpec:
    """Return the dictionary of all coordinates of a layer's `neurons` or `heads`. Raises UnknownSite."""
    kind = KINDS[word]
    if layer is None and site is None:
        raise UnknownSite(f"layer=None; name it with --layer N, one of 0..{facts.blocks.n_layers - 1}")
    place = Site.parse(site or f"{kind}.{layer}")
    found = width(facts, place)
    if place.kind != kind or found is None:
        raise UnknownSite(f"site={place}; {word} are at {kind}.LAYER")
    return DictionarySpec(
        name=name or f"{word} of layer {place.layer}",
        subject=facts.name,
        revision=revision,
        read_site=str(place),
        encoder=Encoder(kind="neurons"),
        n_features=found,
        source=word,
    )
