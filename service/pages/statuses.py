"""What the status of a feature means, and why its descriptions have none."""

from schema.labels import Feature, Status

_MEANINGS = {
    Status.TOO_RARE: "It fires in too few contexts to tell what they have in common.",
    Status.UNREACHABLE: "No strength that was tried changes the output as much as steering aims at, so that there is "
    "nothing of its effect to describe or to test.",
    Status.REFUSED: "The LLM refused to describe it.",
    Status.UNPARSED: "What the LLM answered could not be read as a description. Its replies are kept.",
    Status.NO_PATTERN: "The LLM was shown the evidence and saw nothing that it has in common.",
    Status.ELIMINATED: "Its descriptions did worst in a first round, and were tested no further.",
    Status.NOT_APPLICABLE: "No method had the evidence that it describes.",
    Status.UNREPORTED: "A description was chosen, but nothing reports a score of it: no items were left to test it on, "
    "or no evaluation that reports one was asked for.",
    Status.FAILED: "The work on it was given up. A later run tries again.",
}


def explained(feature: Feature) -> str | None:
    """Return what a feature's status means; None where it is `ok`."""
    status, exemplars = feature.summary.status, feature.exemplars
    if status == "unlabelled":
        return _unlabelled(feature)
    if status == Status.DEAD:
        tokens = "" if exemplars is None else f" on {exemplars.n_tokens:,} tokens of the corpus"
        return f"It never fired{tokens}, so that there is nothing to describe. In another corpus it may."
    return _MEANINGS.get(Status(status)) if status in set(Status) else None


def reasons(feature: Feature) -> tuple[tuple[str, str], ...]:
    """Return why descriptions are not ok: the methods, and the reason that they share."""
    found: dict[str, list[str]] = {}
    for one in feature.descriptions:
        if one.status != Status.OK:
            found.setdefault(one.reason or str(one.status), []).append(one.method.replace("_", " "))
    return tuple((", ".join(methods), reason) for reason, methods in found.items())


def _unlabelled(feature: Feature) -> str:
    if feature.descriptions:
        return (
            "It was described, but no run has published a label of it: one may be under way, or it was only in the "
            "pool that others are tested against."
        )
    known = (feature.exemplars, feature.vocabulary, feature.steered_texts)
    if any(evidence is not None for evidence in known):
        return "Evidence of it was collected, but no run has published a label of it yet."
    return "No run has been about this feature yet."
