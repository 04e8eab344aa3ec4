"""Stage names, their order, the queue that serves each, and what each waits for."""

from enum import StrEnum
from typing import Literal

Queue = Literal["subject", "llm", "control"]
QUEUE_NAMES: tuple[Queue, ...] = ("subject", "llm", "control")


class Stage(StrEnum):
    """One kind of job. The order of the members is the order of a run."""

    INGEST = "ingest"  # dictionary against subject; firing thresholds
    EXEMPLARS = "exemplars"  # one corpus shard, all features
    MERGE = "merge"  # partial exemplars to evidence; selection and pool become blocks
    STEERING = "steering"  # projection, token change, calibration, steered texts of a block
    DESCRIBE = "describe"  # descriptions of a block
    RANK = "rank"  # the embedding judge: output scores of a block, and which descriptions are tested further
    WRITE = "write"  # the writer's sentences for those descriptions
    ACTIVATE = "activate"  # those sentences, and the free scores, through the subject
    JUDGE = "judge"  # the LLM judge, and the choice of each feature's label
    PUBLISH = "publish"  # the label of every feature of a block
    REPORT = "report"  # what the whole run found, when all its labels are published


QUEUES: dict[Stage, Queue] = {
    Stage.INGEST: "subject",
    Stage.EXEMPLARS: "subject",
    Stage.MERGE: "subject",
    Stage.STEERING: "subject",
    Stage.DESCRIBE: "llm",
    Stage.RANK: "llm",
    Stage.WRITE: "llm",
    Stage.ACTIVATE: "subject",
    Stage.JUDGE: "llm",
    Stage.PUBLISH: "control",
    Stage.REPORT: "control",
}


def stages_of(queue: Queue) -> list[Stage]:
    """Return the stages that workers of a queue serve."""
    return [stage for stage in Stage if QUEUES[stage] == queue]
