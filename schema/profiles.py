"""LLM profiles: the operator's names for what answers, what it costs and how much may be asked of it at once.

`default` is the endpoint that the environment names, `none` is no LLM at all; the others are in a TOML file of the
operator's (`GLOSSARIUM_LLM_PROFILES`), which is read again whenever one is looked for. Users name profiles and nothing
else. Knows no HTTP: `workers.llm` does the asking.
"""

import tomllib
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from pydantic import Field, SecretStr, ValidationError, model_validator

from schema.errors import BadProfiles, InvalidInput, LLMUnavailable
from schema.records import Record
from schema.settings import Settings, read_secret

DEFAULT, NONE = "default", "none"
IN_FLIGHT = 64
IN_FLIGHT_EMBEDDED = 4
LEASE_MARGIN_S = 30.0
_RETRY_AFTER_OPERATOR_S = 600.0
_PER_MILLION = 1e-6


class Prices(Record):
    """Dollars per million tokens. None is not known, and never 0; cached tokens without a price cost what others do."""

    prompt: float | None = Field(None, ge=0, allow_inf_nan=False)
    cached_prompt: float | None = Field(None, ge=0, allow_inf_nan=False)
    completion: float | None = Field(None, ge=0, allow_inf_nan=False)

    def of(self, prompt_tokens: int, cached_tokens: int, completion_tokens: int) -> float | None:
        """Return the dollars that tokens cost, None where a price is not known; cached ones are among the prompt's."""
        if self.prompt is None or self.completion is None:
            return None
        cached_price = self.prompt if self.cached_prompt is None else self.cached_prompt
        cached = min(cached_tokens, prompt_tokens)
        dollars = (prompt_tokens - cached) * self.prompt + cached * cached_price + completion_tokens * self.completion
        return dollars * _PER_MILLION


FREE = Prices(prompt=0.0, cached_prompt=0.0, completion=0.0)


class Limits(Record):
    """How much a process may ask of an endpoint; None is as much as it takes."""

    requests_per_minute: int | None = Field(None, ge=1)
    tokens_per_minute: int | None = Field(None, ge=1)
    in_flight: int = Field(IN_FLIGHT, ge=1, le=1000)


class LLMProfile(Record):
    """An operator's LLM: where it is, what it is called, what it costs and what it bears.

    api_key_variable:  the environment variable that holds the key, where `api_key` does not.
    context_tokens:    of prompt and answer together; what surely does not fit is not sent.
    extra:             fields that every request carries besides, such as `reasoning_effort`.
    known_as:          what recipes call the endpoint, where that is not its URL.
    """

    name: str = Field(min_length=1, max_length=100)
    base_url: str = Field(pattern=r"^https?://[^\s@]+$")
    api_key: SecretStr | None = None
    api_key_variable: str | None = None
    model: str = Field(min_length=1)
    prices: Prices = Prices()
    limits: Limits = Limits()
    timeout_s: float = Field(120.0, gt=0, le=600)
    context_tokens: int | None = Field(None, ge=1)
    extra: Mapping[str, Any] = Field(default_factory=dict)
    known_as: str | None = None

    @model_validator(mode="after")
    def _has_one_key(self) -> "LLMProfile":
        if self.api_key is not None and self.api_key_variable is not None:
            raise ValueError("give api_key or api_key_variable, not both")
        return self

    @property
    def secret(self) -> SecretStr:
        """Return the key, `none` for an endpoint without one. Raises LLMUnavailable if its variable is not set."""
        if self.api_key_variable is None:
            return self.api_key or SecretStr("none")
        found = read_secret(self.api_key_variable)
        if found is None:
            message = f"the LLM profile {self.name!r} needs the variable {self.api_key_variable}, which is not set here"
            raise LLMUnavailable(message, retry_after_s=_RETRY_AFTER_OPERATOR_S)
        return found

    @property
    def recipe(self) -> dict[str, object]:
        """Return what of the profile decides an answer, as a part of a recipe."""
        extra = {"extra": self.extra} if self.extra else {}
        return {"model": self.model, "endpoint": self.known_as or self.base_url, **extra}


def profile(name: str, settings: Settings) -> LLMProfile | None:
    """Return the profile of a name, None for `none`.

    Raises: InvalidInput naming those that there are; BadProfiles if the operator's file can't be used.
    """
    if name == NONE:
        return None
    known = profiles(settings)
    if name not in known:
        raise InvalidInput(f"llm={name!r}; this installation has the profiles {', '.join(names(settings))}")
    return known[name]


def names(settings: Settings) -> tuple[str, ...]:
    """Return what a run may name: `default`, `none`, then the operator's in the order of the file."""
    return (DEFAULT, NONE, *(name for name in profiles(settings) if name != DEFAULT))


def profiles(settings: Settings) -> Mapping[str, LLMProfile]:
    """Return every profile by its name. Raises BadProfiles if the operator's file can't be used."""
    return MappingProxyType({DEFAULT: _from_environment(settings), **_from_file(settings)})


def recipes(wanted: Iterable[str], settings: Settings) -> dict[str, dict[str, object] | None]:
    """Return what decides the answers of some profiles, by name; None of `none`. Raises as `profile` does."""
    found = {name: profile(name, settings) for name in wanted}
    return {name: known.recipe if known else None for name, known in found.items()}


def lease_s(settings: Settings) -> float:
    """Return how long the lease of an LLM job lasts: the longest read time-out of a profile and 30 s."""
    return max(known.timeout_s for known in profiles(settings).values()) + LEASE_MARGIN_S


def _from_environment(settings: Settings) -> LLMProfile:
    in_flight = settings.llm_concurrency or (IN_FLIGHT_EMBEDDED if settings.llm_embedded else IN_FLIGHT)
    return LLMProfile(
        name=DEFAULT,
        base_url=settings.llm_base_url,
        api_key=settings.llm_api_key,
        model=settings.llm_model,
        prices=FREE if settings.llm_embedded else Prices(),
        limits=Limits(in_flight=in_flight),
        timeout_s=settings.llm_timeout_s,
        # Its port is another one at every start of the stack; what it answered stays what it answered.
        known_as="embedded" if settings.llm_embedded else None,
    )


def _from_file(settings: Settings) -> dict[str, LLMProfile]:
    path = settings.llm_profiles
    if path is None:
        return {}
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8")).get("profiles", {})
    except (OSError, ValueError) as exc:  # tomllib's error is a ValueError, and so is bad UTF-8
        said = exc.strerror if isinstance(exc, OSError) else exc  # users need not know where it lies
        raise BadProfiles(f"the file of LLM profiles (GLOSSARIUM_LLM_PROFILES) can't be read: {said}") from exc
    if not isinstance(tables, dict) or not tables:
        raise BadProfiles("the file of LLM profiles holds no table [profiles.NAME]")
    return {name: _read(name, table) for name, table in tables.items()}


def _read(name: str, table: object) -> LLMProfile:
    if name in (DEFAULT, NONE):
        raise BadProfiles(f"[profiles.{name}] can't be defined: the environment names `default`, `none` is no LLM")
    if not isinstance(table, dict):
        raise BadProfiles(f"profiles.{name} must be a table")
    try:
        return LLMProfile.model_validate({**table, "name": name})
    except ValidationError as exc:
        first = exc.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise BadProfiles(f"[profiles.{name}] {place}: {first['msg']}") from None  # its text may hold the key
