"""What a run will cost, before it is asked for."""

from itertools import islice
from typing import Annotated

from fastapi import APIRouter, Body

from prompts.estimating import Expected, Features, expected_calls
from schema import profiles
from schema.budgets import in_words
from schema.records import Budget, Dictionary, RunSpec
from schema.selection import draw, parse_selection
from schema.settings import Settings
from schema.store import corpora, dictionaries, features
from schema.store.database import Connection
from schema.wire import ExpectedCalls, RunEstimate
from service import examples
from service.auth import needs
from service.bodies import Strict
from service.deps import Held, Tenant
from service.runs import check_spec

router = APIRouter(prefix="/v1/runs", tags=["runs"], responses=examples.PROBLEMS)


@router.post("/estimate", responses=examples.ok(examples.ESTIMATE))
@needs("read")
def estimate_run(
    spec: Annotated[RunSpec, Body(openapi_examples=examples.RUN_SPECS), Strict()], held: Held, tenant_id: Tenant
) -> RunEstimate:
    """Say what LLMs a run would ask how much, and at what price. Nothing is stored.

    The weights of the dictionary need not be there yet. The corpus must be, though what it has changes no price.
    """
    check_spec(spec, held.settings)

    def work(connection: Connection) -> Features:
        corpora.n_bytes_of(connection, tenant_id, spec.corpus, corpora_dir=held.settings.corpora_dir)
        return _features(connection, dictionaries.get(connection, tenant_id, spec.dictionary_id), spec)

    return estimate(spec, held.database.run(work), held.settings)


def estimate(spec: RunSpec, about: Features, settings: Settings) -> RunEstimate:
    """Return what a run over so many features is expected to ask, priced by its profiles."""
    rows = [row for one in expected_calls(spec, about) if (row := _priced(one, spec, settings)) is not None]
    dollars = [row.dollars for row in rows]
    whole = RunEstimate(
        n_features=about.selected,
        n_pool_only=about.pool_only,
        calls=sum(row.calls for row in rows),
        prompt_tokens=sum(row.prompt_tokens for row in rows),
        completion_tokens=sum(row.completion_tokens for row in rows),
        dollars=None if None in dollars else sum(price for price in dollars if price is not None),
        by_purpose=tuple(rows),
    )
    return whole.model_copy(update={"warning": _warning(whole, spec.budget)})


def _warning(expected: RunEstimate, budget: Budget | None) -> str | None:
    """Return in words that a budget is below what is expected, None where it is not."""
    if budget is None:
        return None
    tokens = expected.prompt_tokens + expected.completion_tokens
    too_many = budget.tokens is not None and tokens > budget.tokens
    too_dear = budget.dollars is not None and (expected.dollars or 0.0) > budget.dollars
    if not too_many and not too_dear:
        return None
    said = in_words(expected.dollars if too_dear else None, tokens if too_many else None)
    cap = in_words(budget.dollars, budget.tokens)
    return f"the run is expected to need {said}, which is above its budget of {cap}: it will pause there"


def _features(connection: Connection, dictionary: Dictionary, spec: RunSpec) -> Features:
    """Return how many features a run is about; where none is known to fire yet, all of them count as alive."""
    n = dictionary.spec.n_features
    alive = features.count_alive(connection, dictionary.id)
    indices = parse_selection(spec.features, n).indices
    if indices is None:
        return Features(n if alive is None else alive, 0)
    # As a run draws it, but for those that turn out not to fire.
    pool = islice(draw(n, spec.seed), spec.options.pool_size)
    return Features(len(indices), len(set(pool) - set(indices)))


def _priced(expected: Expected, spec: RunSpec, settings: Settings) -> ExpectedCalls | None:
    """Return calls with their price; None where their profile is none."""
    llm = profiles.profile(getattr(spec.profiles, expected.role), settings)
    if llm is None:
        return None
    calls = round(expected.calls)
    prompt, completion = round(calls * expected.prompt_tokens), round(calls * expected.completion_tokens)
    return ExpectedCalls(
        purpose=expected.purpose,
        profile=llm.name,
        calls=calls,
        prompt_tokens=prompt,
        completion_tokens=completion,
        dollars=llm.prices.of(prompt, 0, completion),
    )
