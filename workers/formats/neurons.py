"""MLP neurons: a dictionary without files, whose encoder is the site itself."""

from schema.errors import UnknownSite
from schema.records import DictionarySpec, Encoder
from schema.subjects import Site, SubjectFacts, width
from workers.formats.files import Converted, Wanted


def neurons_spec(
    facts: SubjectFacts, layer: int, name: str | None = None, revision: str | None = None
) -> DictionarySpec:
    """Return the dictionary of all MLP neurons of a layer. Raises UnknownSite."""
    site = Site("mlp_hidden", layer)
    width(facts, site)
    return DictionarySpec(
        name=name or f"MLP neurons of layer {layer}",
        subject=facts.name,
        revision=revision,
        read_site=str(site),
        encoder=Encoder(kind="neurons"),
        n_features=facts.blocks.d_mlp,
        source="neurons",
    )


def convert(facts: SubjectFacts, wanted: Wanted) -> Converted:
    """Return the neurons of the wanted layer. Raises UnknownSite without one."""
    if wanted.layer is None:
        raise UnknownSite(f"layer=None; give --layer 0..{facts.blocks.n_layers - 1}")
    return Converted(neurons_spec(facts, wanted.layer, wanted.name, wanted.revision), {}, "MLP neurons")
