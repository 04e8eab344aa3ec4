"""The publisher's room: the ruling on each feature of a block becomes its label."""

from collections.abc import Mapping
from typing import Any

from schema.labels import Description, Label, Score, Status
from schema.recipes import digest
from schema.stages import Stage
from schema.store import descriptions, jobs, labels, runs, scores
from schema.store.database import Connection
from workers.desk import Block, read_block
from workers.engine import Context, Outcome
from workers.ingredients import ingredients
from workers.score_recipe import score_recipe

_NOT_JUDGED = "its judge's job failed"


def publish_block(context: Context) -> Outcome:
    """Return the labels of a block's features."""
    block = read_block(context)
    recipe = score_recipe(block, context.settings)
    with context.transaction() as connection:
        choices = jobs.left(connection, block.brief.run_id, Stage.JUDGE, context.job.block, "choices")
        winners = descriptions.load(connection, [c["winner"] for c in choices.values() if c.get("winner")])
        tested = scores.load(connection, block.brief.dictionary.id, recipe, block.selected)
    by_llm = {score.description_id: score for score in tested if score.kind == "output_llm"}
    made = [_label(feature, choices.get(str(feature)), winners, by_llm) for feature in block.selected]
    context.progress.advance(len(made))
    made_from = ingredients(block.brief, block.corpus, context.settings)

    def write(connection: Connection) -> None:
        _publish(connection, block, made, recipe)
        runs.put_ingredients(connection, block.brief.run_id, made_from)

    return Outcome(write)


def _label(
    feature: int,
    choice: Mapping[str, Any] | None,
    winners: Mapping[int, Description],
    by_llm: Mapping[int | None, Score],
) -> Label:
    if choice is None:
        return Label(
            feature=feature,
            text=None,
            status=Status.FAILED,
            method=None,
            description_id=None,
            choice={"reason": _NOT_JUDGED},
        )
    winner = winners.get(choice.get("winner", 0))
    return Label(
        feature=feature,
        text=winner.text if winner else None,
        status=Status(choice["status"]),
        method=winner.method if winner else None,
        description_id=winner.id if winner else None,
        input=Score.model_validate(choice["input"]) if winner else None,
        output=Score.model_validate(choice["output"]) if winner and choice["output"] else None,
        output_llm=by_llm.get(winner.id) if winner else None,
        best_input=choice["best_input"],
        best_output=choice["best_output"],
        choice={"standings": choice["standings"]},
    )


def _publish(connection: Connection, block: Block, made: list[Label], recipe: str) -> None:
    for label in made:
        labels.publish(
            connection,
            block.brief.dictionary.id,
            block.brief.run_id,
            label,
            digest({"kind": "label", "scores": recipe, "feature": label.feature, "description": label.description_id}),
        )
    labels.tally(connection, [block.brief.run_id], [label.feature for label in made])
