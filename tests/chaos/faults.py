"""The faults, one function each: what is injected into a run, and what must hold at its end.

They are the acceptance of the design (4-durability), by its numbers; what users are promised besides (7, 9, 10) is in
`promises`.
"""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import httpx
import psutil
import psycopg

from schema.stages import QUEUE_NAMES
from service.processes import MAX_PAUSE_S
from service.queue import Doorbell
from tests.chaos import promises
from tests.chaos.arena import IN_FLIGHT, LEASE_S, Arena, Lost, Recovery, Watch
from tests.chaos.trial import TWO_SWEEPS_S, Outcome, Size, Trial, worst
from tests.llm_server import Mode


def workers_killed(arena: Arena, size: Size) -> Outcome:
    """1. A random worker is killed every two seconds."""
    trial, draw = Trial(arena, size.many), random.Random(0)
    killed, lost = list[str](), list[Lost]()
    while len(killed) < size.kills and not trial.is_over:
        time.sleep(2)
        queue = draw.choice(QUEUE_NAMES)
        if (pid := arena.signal(queue, signal.SIGKILL)) is not None:
            killed.append(queue)
            lost = arena.lost_by(pid)
    recovered = arena.until_taken_over(lost[0]) if lost else arena.until_work_goes_on(trial.id)
    books = trial.end(unresolved=IN_FLIGHT * killed.count("llm"))
    counted = ", ".join(f"{queue} {killed.count(queue)}" for queue in QUEUE_NAMES)
    detail = f"{size.many} features; {counted}; {books.unresolved} calls were in flight"
    outcome = trial.outcome("kill -9 of a worker", len(killed), books, recovered, detail)
    # No single fault: who ends soon again and again is started after a pause.
    return outcome._replace(allowed_s=TWO_SWEEPS_S + MAX_PAUSE_S)


def worker_stopped(arena: Arena, size: Size) -> Outcome:
    """2. A worker is stopped past its lease and continued: its commit affects no row."""
    trial = Trial(arena, size.features)
    with arena.another("subject"):
        worker, lost = arena.until(lambda: _stop_at_work(arena, trial), 180, 0.005)
        try:
            recovered = arena.until_taken_over(lost)
        finally:
            worker.send_signal(signal.SIGCONT)
        books = trial.end()
    return trial.outcome("SIGSTOP past the lease", 1, books, recovered, "another worker did its job")


def _stop_at_work(arena: Arena, trial: Trial) -> tuple[psutil.Process, Lost] | None:
    """Stop a subject worker that has a job in hand; return it, and the job."""
    held = "SELECT owner FROM job WHERE run_id = %s AND state = 'leased' AND queue = 'subject' AND begun"
    for (owner,) in arena.query(held, trial.id):
        worker = psutil.Process(int(owner.rsplit(":", 1)[1]))
        worker.send_signal(signal.SIGSTOP)
        if lost := arena.lost_by(worker.pid):
            return worker, lost[0]
        worker.send_signal(signal.SIGCONT)
    return None


def sweepers_stopped(arena: Arena, size: Size) -> Outcome:
    """2. Those who sweep are stopped, one of them for good; the others sweep on."""
    trial = Trial(arena, size.features)
    trial.under_way("steering")
    stopped = [
        process
        for process in psutil.Process(arena.stack.pid).children(recursive=True)
        if "control@%h" in process.cmdline() or "beat" in process.cmdline()
    ]
    for process in stopped:
        process.send_signal(signal.SIGSTOP)
    try:
        worker, lost = arena.until(lambda: _stop_at_work(arena, trial), 180, 0.005)
        worker.kill()
        recovered = arena.until_taken_over(lost)
        time.sleep(LEASE_S)
    finally:
        for process in stopped:
            process.send_signal(signal.SIGCONT)
    books = trial.end()
    return trial.outcome("SIGSTOP of sweepers", len(stopped), books, recovered, "control worker and beat")


def broker_emptied(arena: Arena, size: Size) -> Outcome:
    """3. FLUSHALL, again and again."""
    trial, recovered = Trial(arena, size.features), list[Recovery]()
    trial.under_way("exemplars")
    while len(recovered) < max(2, size.kills // 5) and not trial.is_over:
        arena.valkey.client.flushall()
        recovered.append(arena.until_work_goes_on(trial.id))
    return trial.outcome("FLUSHALL", len(recovered), trial.end(), worst(recovered), "")


def broker_down(arena: Arena, size: Size) -> Outcome:
    """3. Redis is down for a minute."""
    trial = Trial(arena, size.features)
    trial.under_way("exemplars")
    arena.valkey.stop(signal.SIGKILL)
    try:
        recovered = arena.until_work_goes_on(trial.id)
        before = arena.done(trial.id)
        time.sleep(size.long_s)
        meanwhile = arena.done(trial.id) - before
    finally:
        arena.valkey.start()
    detail = f"{meanwhile} jobs were done in {size.long_s:g} s without it"
    return trial.outcome("Redis down", 1, trial.end(), recovered, detail)


def broker_silent(arena: Arena, size: Size) -> Outcome:
    """3. A broker that holds its connections and says nothing."""
    trial = Trial(arena, size.features)
    trial.under_way("exemplars")
    arena.wire.silence()
    try:
        recovered = arena.until_work_goes_on(trial.id)
        before = arena.done(trial.id)
        time.sleep(size.long_s)
        meanwhile = arena.done(trial.id) - before
    finally:
        arena.wire.restore()
    detail = f"{meanwhile} jobs were done in {size.long_s:g} s meanwhile"
    return trial.outcome("half-open broker", 1, trial.end(), recovered, detail)


def bells_rung_often(arena: Arena, size: Size) -> Outcome:
    """4. Far more doorbells than jobs."""
    bell, rung = Doorbell(arena.valkey.url), 0

    def ring() -> None:
        nonlocal rung
        for _ in range(5):
            rung += 3 * bell.ring(QUEUE_NAMES)

    trial = Trial(arena, size.features)
    with Watch(ring, 0.2):
        books = trial.end()
    n_jobs = arena.query("SELECT count(*) FROM job WHERE run_id = %s", trial.id)[0][0]
    assert rung > 5 * n_jobs, (rung, n_jobs)
    return trial.outcome("doorbells", rung, books, None, f"{n_jobs} jobs")


def database_crashed(arena: Arena, size: Size) -> Outcome:
    """5. Postgres is restarted in immediate mode; the API answers 503 meanwhile, never 500.

    Work may go on when Postgres answers again: the time until then is told apart.
    """
    trial, recovered, away, answers = Trial(arena, size.features), list[Recovery](), list[float](), set[int]()
    url, headers = f"{arena.stack.api_url}/v1/runs/{trial.id}", {"Authorization": f"Bearer {arena.stack.key}"}

    def ask() -> None:
        with contextlib.suppress(httpx.TransportError):
            answers.add(httpx.get(url, headers=headers, timeout=20).status_code)

    trial.under_way("exemplars")
    with Watch(ask, 0.02):
        while len(away) < max(2, size.kills // 6) and not trial.is_over:
            away.append(arena.postgres.crash(down_s=0.0 if away else 8.0))  # once for longer than the API waits
            recovered.append(arena.until_work_goes_on(trial.id))
    assert answers == {200, 503}, answers
    books = trial.end(unresolved=IN_FLIGHT * len(away))
    said = ", ".join(map(str, sorted(answers)))
    detail = f"the API answered {said}; Postgres itself was away for {min(away):.1f} to {max(away):.1f} s"
    return trial.outcome("Postgres immediate restart", len(away), books, worst(recovered), detail)


def poisonous_feature(arena: Arena, size: Size) -> Outcome:
    """6. A feature that kills its worker is given up and named; its 31 neighbours are done."""
    trial = Trial(arena, 32, options={"pool_size": 32})
    kills = _poison(arena, trial, _HOLDS_POSITION, 17)
    books = trial.end(dead=1)
    (dead,) = arena.run(trial.id).dead
    (feature,) = arena.query("SELECT feature FROM run_feature WHERE run_id = %s AND position = 17", trial.id)[0]
    assert (dead.stage, dead.features) == ("steering", (feature,)), dead
    steered = "SELECT count(DISTINCT feature) FROM evidence JOIN run USING (dictionary_id)"
    (n,) = arena.query(f"{steered} WHERE run.id = %s AND kind = 'steered_texts'", trial.id)[0]
    assert n == 31, n
    return trial.outcome("a feature that kills", kills, books, None, dead.reason)


def poisonous_document(arena: Arena, size: Size) -> Outcome:
    """6. A document that kills its worker is left out, and named."""
    trial = Trial(arena, size.features)
    kills = _poison(arena, trial, _HOLDS_DOCUMENT, 23)
    books = trial.end(dead=1)
    (dead,) = arena.run(trial.id).dead
    assert (dead.stage, dead.document) == ("exemplars", 23), dead
    return trial.outcome("a document that kills", kills, books, None, dead.reason)


_HOLDS_POSITION = """SELECT id, fence, owner FROM job
WHERE run_id = %s AND stage = 'steering' AND state = 'leased' AND begun AND feature_lo <= %s AND %s < feature_hi
FOR UPDATE"""
_HOLDS_DOCUMENT = """SELECT id, fence, owner FROM job
WHERE run_id = %s AND stage = 'exemplars' AND state = 'leased' AND begun
  AND (block = %s + 1 OR block = 0 AND lost = 0 OR in_hand = %s)
FOR UPDATE"""


def _poison(arena: Arena, trial: Trial, holds: str, number: int) -> int:
    """Kill whoever works on something, until it is given up, and return how many died of it.

    The row is locked before: whoever is found at work can't end it any more.
    """
    given_up = "SELECT 1 FROM job WHERE run_id = %s AND state = 'dead'"
    killed, deadline = set[tuple[int, int]](), time.monotonic() + 300
    with psycopg.connect(arena.postgres.url) as connection:
        while not connection.execute(given_up, (trial.id,)).fetchone():
            assert time.monotonic() < deadline, f"not given up after {len(killed)} kills"
            for id_, fence, owner in connection.execute(holds.encode(), (trial.id, number, number)).fetchall():
                if (id_, fence) not in killed:
                    killed.add((id_, fence))
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(int(owner.rsplit(":", 1)[1]), signal.SIGKILL)
            connection.rollback()
            time.sleep(0.003)
    return len(killed)


def llm_limits(arena: Arena, size: Size) -> Outcome:
    """8. Three of ten calls are answered with 429 and `Retry-After: 2`."""
    arena.llm.retry_after_s = 2.0
    return _with_llm(arena, size, "LLM: 30 % 429", lambda n: "rate_limited" if n % 10 < 3 else "ok")


def llm_down(arena: Arena, size: Size) -> Outcome:
    """8. A minute of 500s, from the first call on."""
    began: list[float] = []

    def misbehave(number: int) -> Mode:
        began.append(time.monotonic())
        return "error" if began[-1] - began[0] < size.long_s else "ok"

    return _with_llm(arena, size, "LLM: 500s", misbehave)


_ODD: tuple[Mode, ...] = ("hang", "truncated", "nonsense", "whitespace", "flood", "refuse")


def llm_odd(arena: Arena, size: Size) -> Outcome:
    """8. Hangs, truncation, bad JSON, floods of whitespace, 50 MB bodies and refusals, one call in ten each."""
    before = _memory_mb(arena)
    made = _with_llm(arena, size, "LLM: odd answers", lambda n: (*_ODD, "ok", "ok", "ok", "ok")[n * 7 % 10])
    grown = _memory_mb(arena) - before
    assert grown < 150, f"the llm worker grew by {grown:.0f} MB"
    return made._replace(detail=f"{made.detail}; the llm worker grew by {grown:.0f} MB")


def _with_llm(arena: Arena, size: Size, name: str, misbehave: Callable[[int], Mode]) -> Outcome:
    injected = 0

    def count(number: int) -> Mode:
        nonlocal injected
        mode = misbehave(number)
        injected += mode != "ok"
        return mode

    arena.llm.misbehave = count
    trial = Trial(arena, size.features)
    try:
        books = trial.end()
    finally:
        arena.llm.misbehave = None
    texts = arena.query("SELECT body ->> 'text', status FROM description WHERE body ->> 'text' IS NOT NULL")
    bad = [text for text, status in texts if status != "ok" or "<" in text or "\n" in text or len(text) > 600]
    assert not bad, bad[:3]
    statuses = arena.query(
        "SELECT status, count(*) FROM call WHERE run_id = %s AND NOT from_cache GROUP BY 1 ORDER BY 2 DESC", trial.id
    )
    detail = ", ".join(f"{n} {status}" for status, n in statuses)
    return trial.outcome(name, injected, books, None, detail)


def _memory_mb(arena: Arena) -> float:
    return float(sum(process.memory_info().rss for process in arena.workers("llm"))) / 2**20


def model_checked(arena: Arena, size: Size) -> Outcome:
    """11. Two hundred random histories of the job state machine, against a model."""
    started = time.monotonic()
    argv = [sys.executable, "-m", "pytest", "-q", "-x", "tests/schema/test_jobs_model.py"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    return Outcome("model check", 200, 0, 0, None, None, None, round(time.monotonic() - started, 1), "200 seeds")


Fault = Callable[[Arena, Size], Outcome]
FAULTS: dict[str, Fault] = {
    "kill": workers_killed,
    "stop": worker_stopped,
    "sweepers": sweepers_stopped,
    "flush": broker_emptied,
    "redis-down": broker_down,
    "half-open": broker_silent,
    "bells": bells_rung_often,
    "postgres": database_crashed,
    "poison": poisonous_feature,
    "poison-document": poisonous_document,
    "pause": promises.run_paused,
    "cancel": promises.run_cancelled,
    "budget": promises.budget_kept,
    "schedule": promises.slot_fired_once,
    "llm-limits": llm_limits,
    "llm-down": llm_down,
    "llm-odd": llm_odd,
    "model": model_checked,
}
