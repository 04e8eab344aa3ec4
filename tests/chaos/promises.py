"""What users are promised, tried while much goes on: pause, cancel, budgets and schedules; by the design's numbers."""

import contextlib
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from schema.records import Budget
from schema.schedules import Refresh, ScheduleSpec
from tests.chaos.arena import IN_FLIGHT, PAID, PRICES, Arena, Recovery
from tests.chaos.oracle import balance
from tests.chaos.trial import TWO_SWEEPS_S, Outcome, Size, Trial, settled

CAP = 1.0  # dollars


def run_paused(arena: Arena, size: Size) -> Outcome:
    """7. Pause takes effect within five seconds; after the resume no call is repeated."""
    with _many_calls(arena) as trial:
        with arena.client as client:
            client.pause(trial.id)
        quiet_s = _silence(arena)
        with arena.client as client:
            client.resume(trial.id)
        arena.llm.slow_s = 0.0
        recovered = arena.until_work_goes_on(trial.id)
        books = trial.end()
    detail = f"the last call came {quiet_s:.1f} s after the pause; {books.served} calls, all settled"
    return trial.outcome("pause and resume", 1, books, recovered, detail)


def run_cancelled(arena: Arena, size: Size) -> Outcome:
    """7. Cancel: no new call after five seconds, and nothing left in hand."""
    with _many_calls(arena) as trial:
        with arena.client as client:
            client.cancel(trial.id)
        quiet_s = _silence(arena)
    books = balance(arena, trial.id, 0)._replace(missing=0)
    assert books.leased == 0
    detail = f"the last call came {quiet_s:.1f} s after it, of {len(arena.llm.chats) - trial.served} in all"
    return trial.outcome("cancel", 1, books, None, detail)


def budget_kept(arena: Arena, size: Size) -> Outcome:
    """9. A cap of a dollar, sixteen calls at once from two workers: no overshoot; the same again costs nothing."""
    with arena.another("llm"):
        metered = len(arena.llm.metered)
        trial = Trial(arena, size.features, methods=_BY_LLM, llm=PAID, budget={"dollars": CAP})
        account = "SELECT run.state, n_open FROM run JOIN spending ON run_id = run.id WHERE run.id = %s"
        arena.until(lambda: arena.query(account, trial.id) == [("paused", 0)], 600)
        spent = sum(PRICES.of(prompt, 0, answer) or 0.0 for prompt, answer in arena.llm.metered[metered:])
        assert CAP / 2 < spent <= CAP, f"${spent:.4f} of ${CAP:g}"
        n_calls = len(arena.llm.chats) - trial.served
        with arena.client as client:
            client.resume(trial.id, Budget(dollars=1000 * CAP))
        recovered = arena.until_work_goes_on(trial.id)
        books = trial.end()
    served = len(arena.llm.chats)
    with arena.client as client:
        again = client.submit_run(trial.run.spec)
    assert settled(arena, again.id, served).served == 0, "the same again asked an LLM"
    detail = f"paused after {n_calls} calls at ${spent:.3f} of ${CAP:.2f}; the same again made none"
    return trial.outcome("a budget", 1, books, recovered, detail)


def slot_fired_once(arena: Arena, size: Size) -> Outcome:
    """10. Two beats, and beats and sweepers that are killed before, in and after a slot: exactly one refresh."""
    half = size.features // 2
    trial = Trial(arena, size.features, features=f"0-{half - 1}")
    trial.end()
    served = len(arena.llm.chats)
    slot = _whole_minute(datetime.now(UTC) + timedelta(seconds=25))
    everything = trial.run.spec.model_copy(update={"features": f"0-{size.features - 1}"})
    with arena.client as client:
        schedule = client.create_schedule(
            ScheduleSpec(name="chaos", run=everything, cron=f"{slot.minute} {slot.hour} * * *")
        )
    killed = 0
    for at_s in (-2, 2):  # the second beat dies at the first of them, and a new one comes
        with arena.another_beat():
            _sleep_until(slot + timedelta(seconds=at_s))
            killed += 1 + arena.kill_beat() + arena.kill("control")

    def closed() -> list[Refresh]:
        with arena.client as client:
            found = list(client.refreshes(schedule.id))
        return found if found and found[0].state == "done" else []

    (refresh,) = arena.until(closed, 600)
    time.sleep(TWO_SWEEPS_S)
    assert len(closed()) == 1
    assert (refresh.slot, refresh.n_features) == (slot, size.features - half), refresh
    assert refresh.run_id is not None
    assert arena.query("SELECT count(*) FROM run WHERE dictionary_id = %s", trial.run.dictionary_id) == [(2,)]
    books = settled(arena, refresh.run_id, served)
    late_s = (refresh.fired_at - slot).total_seconds()
    detail = f"one refresh, of the {refresh.n_features} features without a label"
    return trial.outcome("two beats, and kills across a slot", killed, books, Recovery(late_s, late_s), detail)


def _whole_minute(after: datetime) -> datetime:
    return after.replace(second=0, microsecond=0) + timedelta(minutes=1)


def _sleep_until(when: datetime) -> None:
    time.sleep(max(0.0, (when - datetime.now(UTC)).total_seconds()))


_BY_LLM = ("max_activating", "vocabulary", "token_change", "combined")


@contextlib.contextmanager
def _many_calls(arena: Arena) -> Iterator[Trial]:
    """Yield a run in the middle of a job with 160 calls of half a second, eight at once."""
    arena.llm.slow_s = 0.5
    trial = Trial(arena, 40, methods=_BY_LLM, evaluations=("output",), options={"pool_size": 40})
    try:
        arena.until(lambda: len(arena.llm.chats) > trial.served + 2 * IN_FLIGHT)
        yield trial
    finally:
        arena.llm.slow_s = 0.0


def _silence(arena: Arena) -> float:
    """Return how many seconds from now the last call came, and see that it is within five."""
    started, last, seen = time.monotonic(), 0.0, len(arena.llm.chats)
    while time.monotonic() - started < 9:
        if len(arena.llm.chats) > seen:
            seen, last = len(arena.llm.chats), time.monotonic() - started
        time.sleep(0.02)
    assert last <= 5, f"a call began {last:.1f} s later"
    return last
