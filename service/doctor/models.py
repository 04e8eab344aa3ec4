"""The LLMs of the profiles and the embedding server: each is asked for as little as there is."""

import time
from collections.abc import Iterator, Mapping
from typing import Any

import httpx

from schema.errors import BadProfiles, LLMUnavailable
from schema.profiles import LLMProfile, profiles
from schema.settings import Settings
from service.doctor.finding import Finding, failed, ok, warning

_WAIT_S = 60.0
_SHOWN = 300
_ADVICE = {
    401: "mend its key",
    402: "add credit",
    403: "mend its key, or what it may do",
    404: "mend its base URL or the model's name",
    429: "its rate limit or credit is used up: see the provider's console",
}


def check_llms(settings: Settings) -> Iterator[Finding]:
    """Yield for each LLM profile whether it answers, and whether its price is known."""
    try:
        known = profiles(settings)
    except BadProfiles as exc:
        yield failed("llm profiles", str(exc), "mend the file; until then runs are refused and LLM jobs wait")
        return
    for profile in known.values():
        yield _answers(profile)
        yield _price(profile)


def _answers(profile: LLMProfile) -> Finding:
    check = f"llm {profile.name}"
    try:
        key = profile.secret.get_secret_value()
    except LLMUnavailable as exc:
        return failed(check, str(exc), "set it for the API and for every llm worker")
    asked = {"model": profile.model, "messages": [{"role": "user", "content": "Say yes."}], **profile.extra}
    began = time.monotonic()
    try:
        response = _post(f"{profile.base_url}/chat/completions", key, {"max_tokens": 1, **asked})
        if response.status_code == 400 and "max_completion_tokens" in response.text:
            response = _post(f"{profile.base_url}/chat/completions", key, {"max_completion_tokens": 16, **asked})
    except httpx.HTTPError as exc:
        advice = "start it, or mend its base URL; until then LLM jobs wait"
        return failed(check, f"{profile.base_url} does not answer: {exc or type(exc).__name__}", advice)
    if response.is_success:
        return ok(check, f"{profile.model} answers in {time.monotonic() - began:.1f} s")
    said = f"{profile.model} at {profile.base_url} answered HTTP {response.status_code}: {_brief(response, key)}"
    return failed(check, said, _ADVICE.get(response.status_code, "see what it says, and its own log"))


def _price(profile: LLMProfile) -> Finding:
    check, prices = f"price of {profile.name}", profile.prices
    if prices.prompt is None or prices.completion is None:
        advice = "budgets in dollars are refused for it: give prices in the file of LLM profiles (0 is free)"
        return warning(check, "is not known", advice)
    return ok(check, f"${prices.prompt:g} and ${prices.completion:g} per million tokens of prompt and answer")


def check_embeddings(settings: Settings) -> Finding:
    """Return whether the embedding server answers, and with how many dimensions."""
    url, key = f"{settings.embeddings_base_url}/embeddings", settings.embeddings_api_key.get_secret_value()
    advice = "start it, or mend EMBEDDINGS_BASE_URL, EMBEDDINGS_API_KEY and EMBEDDINGS_MODEL"
    try:
        response = _post(url, key, {"model": settings.embeddings_model, "input": ["yes"]})
    except httpx.HTTPError as exc:
        return failed("embeddings", f"{url} does not answer: {exc or type(exc).__name__}", advice)
    if not response.is_success:
        return failed("embeddings", f"{url} answered HTTP {response.status_code}: {_brief(response, key)}", advice)
    try:
        dimension = len(response.json()["data"][0]["embedding"])
    except (ValueError, LookupError, TypeError):
        return failed("embeddings", f"{url} answered with something that is not embeddings", advice)
    return ok("embeddings", f"{settings.embeddings_model} answers with {dimension} dimensions")


def _post(url: str, key: str, body: Mapping[str, Any]) -> httpx.Response:
    return httpx.post(url, json=body, headers={"Authorization": f"Bearer {key or 'none'}"}, timeout=_WAIT_S)


def _brief(response: httpx.Response, key: str) -> str:
    text = " ".join(response.text.split())[:_SHOWN]
    return text.replace(key, "[key]") if len(key) >= 8 else text
