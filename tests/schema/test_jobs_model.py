"""Jobs against a model of them: claims, ends, losses, retries and cancels in random orders, 200 seeds.

The model is a dictionary of states and the rules of the design in a few lines; after every step the database must hold
exactly what the model holds, and its tallies what a plain count of its jobs does. No process, no clock: a lease is over
when the step says so.
"""

import random
import uuid
from dataclasses import dataclass, field

import pytest

from schema.errors import LeaseLost
from schema.graph import JobKey, NewJob
from schema.stages import Stage
from schema.store import jobs, run_features, sweeper
from schema.store.database import Connection
from schema.store.jobs import Job
from schema.store.run_features import RunFeature
from tests.bare_run import store_bare_run
from tests.schema.counting import counted, tallied

N_SEEDS = 200
N_FEATURES = 3

Name = tuple[str, int, int]  # stage, block, corpus_shard


@dataclass
class Modelled:
    """A job as the model sees it."""

    waits_for: set[Name]
    n_features: int = 0
    state: str = "blocked"
    attempt: int = 0
    lost: int = 0
    begun: bool = False


@dataclass
class Model:
    """All jobs of a run, and the claims that workers still believe in."""

    jobs: dict[Name, Modelled]
    state: str = "queued"
    believed: list[Job] = field(default_factory=list)

    def settle(self) -> None:
        """Release what waits for nothing any more, and end a run without work."""
        for job in self.jobs.values():
            if job.state == "blocked" and all(self.jobs[name].state in ("done", "dead") for name in job.waits_for):
                job.state = "ready"
        if self.state in ("queued", "running") and not self.unfinished:
            self.state = "done"

    @property
    def unfinished(self) -> bool:
        return any(job.state in ("blocked", "ready", "leased") for job in self.jobs.values())

    def cancel(self, state: str) -> None:
        self.state = state
        for job in self.jobs.values():
            if job.state in ("blocked", "ready", "leased"):
                job.state = "cancelled"

    def bury(self, name: Name) -> None:
        self.jobs[name].state = "dead"
        if name[0] in ("ingest", "exemplars", "merge"):
            self.cancel("failed")

    def lose(self, name: Name) -> None:
        job = self.jobs[name]
        losses = job.lost + job.begun
        if losses >= 2 and job.n_features > 1:
            self.split(name)
        elif losses >= (6 if name[0] in ("ingest", "merge") else 3) or job.attempt >= 15:
            self.bury(name)
        else:
            job.state, job.lost = "ready", losses

    def split(self, name: Name) -> None:
        stage, block, _ = name
        del self.jobs[name]
        parts = {(stage, block, 1 + i) for i in range(N_FEATURES)}
        self.jobs |= {part: Modelled(set(), 1, "ready", lost=1) for part in parts}
        for job in self.jobs.values():
            if name in job.waits_for:
                job.waits_for = job.waits_for - {name} | parts


def start(connection: Connection) -> tuple[uuid.UUID, Model]:
    """Store a run of two blocks behind an ingest, and return its model."""
    run = store_bare_run(connection)
    run_features.put(connection, run, [RunFeature(i, i, True, True) for i in range(2 * N_FEATURES)])
    ingest = JobKey(Stage.INGEST)
    made = [NewJob(ingest)]
    for block in range(2):
        lo, before = block * N_FEATURES, ingest
        for stage in (Stage.STEERING, Stage.DESCRIBE, Stage.JUDGE):
            made.append(NewJob(JobKey(stage, block), lo, lo + N_FEATURES, N_FEATURES, (before,)))
            before = JobKey(stage, block)
    made.append(NewJob(JobKey(Stage.REPORT), waits_for=tuple(JobKey(Stage.JUDGE, block) for block in range(2))))
    jobs.insert(connection, run, made)
    model = Model(
        {
            _name(job.key): Modelled({_name(key) for key in job.waits_for}, job.feature_hi - job.feature_lo)
            for job in made
        }
    )
    model.settle()
    return run, model


def _name(key: JobKey) -> Name:
    return (str(key.stage), key.block, key.shard)


def _of(job: Job) -> Name:
    return (str(job.stage), job.block, job.shard)


def claim(connection: Connection, run: uuid.UUID, model: Model, draw: random.Random) -> None:
    connection.execute("UPDATE job SET run_at = now() WHERE run_id = %s", (run,))  # delays are not modelled
    job = jobs.claim(connection, list(Stage), owner="model", lease_s=3600)
    claimable = model.state in ("queued", "running") and any(one.state == "ready" for one in model.jobs.values())
    assert (job is not None) == claimable
    if job is None:
        return
    modelled = model.jobs[_of(job)]
    assert modelled.state == "ready"
    modelled.state, modelled.begun, model.state = "leased", False, "running"
    modelled.attempt += 1
    assert (job.attempt, job.lost) == (modelled.attempt, modelled.lost)
    model.believed.append(job)
    if draw.random() < 0.7:
        jobs.begin(connection, job)
        modelled.begun = True
        jobs.heartbeat(connection, job, lease_s=3600, progress=draw.randrange(N_FEATURES + 2))


def _is_held(connection: Connection, model: Model, job: Job) -> bool:
    row = connection.execute("SELECT fence FROM job WHERE id = %s AND state = 'leased'", (job.id,)).fetchone()
    held = row == (job.fence,)
    assert not held or model.jobs[_of(job)].state == "leased"
    return held


def finish(connection: Connection, run: uuid.UUID, model: Model, draw: random.Random) -> None:
    if not model.believed:
        return
    job = model.believed.pop(draw.randrange(len(model.believed)))
    if _is_held(connection, model, job):
        jobs.finish(connection, job)
        model.jobs[_of(job)].state = "done"
    else:
        with pytest.raises(LeaseLost):
            jobs.finish(connection, job)


def fail(connection: Connection, run: uuid.UUID, model: Model, draw: random.Random) -> None:
    if not model.believed:
        return
    job, final = model.believed.pop(draw.randrange(len(model.believed))), draw.random() < 0.1
    held = _is_held(connection, model, job)
    jobs.fail(connection, job, reason="it failed", final=final)
    if held and (final or job.attempt >= 5):
        model.bury(_of(job))
    elif held:
        model.jobs[_of(job)].state = "ready"


def give_back(connection: Connection, run: uuid.UUID, model: Model, draw: random.Random) -> None:
    if not model.believed:
        return
    job = model.believed.pop(draw.randrange(len(model.believed)))
    held = _is_held(connection, model, job)
    jobs.give_back(connection, job, reason="nobody answers", delay_s=0)
    if held:
        model.jobs[_of(job)].state = "ready"
        model.jobs[_of(job)].attempt -= 1


def expire(connection: Connection, run: uuid.UUID, model: Model, draw: random.Random) -> None:
    """Let the lease of one job run out, and sweep. Its worker does not know, and may try to finish later."""
    held = [job for job in model.believed if _is_held(connection, model, job)]
    if held:
        job = draw.choice(held)
        connection.execute("UPDATE job SET lease_until = now() - interval '1 s' WHERE id = %s", (job.id,))
        model.lose(_of(job))
    sweeper.sweep(connection)


def cancel(connection: Connection, run: uuid.UUID, model: Model, draw: random.Random) -> None:
    if draw.random() < 0.05 and model.state in ("queued", "running"):
        jobs.cancel(connection, run)
        connection.execute("UPDATE run SET state = 'cancelled' WHERE id = %s", (run,))
        model.cancel("cancelled")


def compare(connection: Connection, run: uuid.UUID, model: Model) -> None:
    model.settle()
    connection.commit()
    assert tallied(connection, run) == counted(connection, run)
    rows = connection.execute(
        "SELECT stage, block, corpus_shard, state, attempt, lost, deps_left FROM job WHERE run_id = %s", (run,)
    ).fetchall()
    stored = {(stage, block, shard): tuple(rest) for stage, block, shard, *rest in rows}
    waiting = ("done", "dead")
    expected = {}
    for name, job in model.jobs.items():
        left = sum(model.jobs[other].state not in waiting for other in job.waits_for) if job.state == "blocked" else 0
        expected[name] = (job.state, job.attempt, job.lost, left)
    seen = {name: (*row[:3], row[3] if row[0] == "blocked" else 0) for name, row in stored.items()}
    assert seen == expected
    assert connection.execute("SELECT state FROM run WHERE id = %s", (run,)).fetchone() == (model.state,)


STEPS = (claim, claim, claim, finish, finish, fail, give_back, expire, cancel)


def test_two_hundred_random_histories_are_those_of_the_model(connection: Connection) -> None:
    ends = set()
    for seed in range(N_SEEDS):
        draw = random.Random(seed)
        run, model = start(connection)
        for _ in range(500):
            draw.choice(STEPS)(connection, run, model, draw)
            compare(connection, run, model)
            if not model.unfinished:
                break
        assert not model.unfinished, f"seed {seed} does not end"
        for stale in model.believed:
            with pytest.raises(LeaseLost):
                jobs.finish(connection, stale)
        ends.add(model.state)
        connection.execute("DELETE FROM run WHERE id = %s", (run,))
    assert ends == {"done", "failed", "cancelled"}
