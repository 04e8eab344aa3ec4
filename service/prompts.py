"""Prompts over HTTP: the files, and what exactly would be sent about a feature."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query

from prompts import Prompt, load_prompt, prompt_ids
from prompts.composing import NotApplicable
from prompts.describing import asking_methods, messages_for
from prompts.estimating import CHARACTERS_PER_TOKEN, TOKENS_OF_A_REPLY
from prompts.evidence import Evidence
from schema import profiles
from schema.labels import Feature, Status
from schema.profiles import FREE, Prices
from schema.records import Method, RunOptions
from schema.store import dictionaries, runs
from schema.store.database import Connection
from schema.wire import ChatTurn, FeaturePrompt, FeaturePrompts, PromptFile, PromptFiles, PromptQuery
from service import examples
from service.deps import Held, Index, Tenant, check_index
from service.features import read_feature

router = APIRouter(prefix="/v1", tags=["prompts"], responses=examples.PROBLEMS)


@router.get("/prompts", responses=examples.ok({"items": [examples.PROMPT_FILE]}))
def list_prompts() -> PromptFiles:
    """List the prompt files, with the checksums that descriptions carry."""
    return PromptFiles(items=tuple(_file(load_prompt(id_)) for id_ in prompt_ids()))


@router.get(
    "/dictionaries/{dictionary_id}/features/{index}/prompts",
    responses=examples.ok({"items": [examples.FEATURE_PROMPT]}),
)
def render_prompts(
    dictionary_id: UUID, index: Index, query: Annotated[PromptQuery, Query()], held: Held, tenant_id: Tenant
) -> FeaturePrompts:
    """Render what describers would be asked about a feature, from its newest evidence, word for word."""

    def work(connection: Connection) -> FeaturePrompts:
        check_index(dictionaries.get(connection, tenant_id, dictionary_id), index)
        feature = read_feature(connection, dictionary_id, index)
        spec = runs.get(connection, tenant_id, query.run_id).spec if query.run_id else None
        methods = query.method or (spec.methods if spec else asking_methods())
        secret = held.settings.secret.get_secret_value().encode()
        options = spec.options if spec else RunOptions()
        describer = profiles.profile(spec.profiles.describer if spec else profiles.DEFAULT, held.settings)
        prices = describer.prices if describer else FREE
        asking = [method for method in methods if method in asking_methods()]
        return FeaturePrompts(items=tuple(render_prompt(method, feature, options, secret, prices) for method in asking))

    return held.database.run(work)


def _file(prompt: Prompt) -> PromptFile:
    shared = len(prompt.system) + sum(len(turn["content"]) for turn in prompt.examples)
    return PromptFile(id=prompt.id, sha256=prompt.sha256, n_shared_characters=shared)


def render_prompt(
    method: Method, feature: Feature, options: RunOptions, secret: bytes, prices: Prices = FREE
) -> FeaturePrompt:
    """Return what a method would ask about a feature now, or why it would not."""
    known = Evidence(
        feature.exemplars, feature.vocabulary, feature.token_change, feature.calibration, feature.steered_texts
    )
    ask = messages_for(method, known, options, secret)
    if isinstance(ask, NotApplicable):
        return FeaturePrompt(method=method, status=ask.status, reason=ask.reason)
    n_tokens = round(sum(len(message["content"]) for message in ask.messages) / CHARACTERS_PER_TOKEN)
    return FeaturePrompt(
        method=method,
        status=Status.OK,
        prompt_id=ask.prompt.id,
        prompt_sha256=ask.prompt.sha256,
        messages=tuple(ChatTurn(**message) for message in ask.messages),
        n_tokens=n_tokens,
        dollars=prices.of(n_tokens, 0, TOKENS_OF_A_REPLY),
    )
