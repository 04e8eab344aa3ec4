"""LLM profiles: what the environment names, what the operator's file adds, and what is wrong with a file."""

from pathlib import Path

import pytest
from pydantic import SecretStr

from schema import profiles
from schema.errors import BadProfiles, InvalidInput, LLMUnavailable
from schema.profiles import FREE, Limits, Prices, profile
from schema.records import RunSpec
from schema.settings import Settings

KEY = "sk-a-secret-key-of-the-operator"
FILE = """
[profiles.large]
base_url = "https://llm.example/v1"
api_key_variable = "TEST_LARGE_KEY"
model = "large-1"
timeout_s = 90
context_tokens = 128_000

[profiles.large.prices]
prompt = 2.5
cached_prompt = 0.25
completion = 10

[profiles.large.limits]
requests_per_minute = 500
tokens_per_minute = 200_000
in_flight = 100

[profiles.large.extra]
reasoning_effort = "low"

[profiles.own]
base_url = "http://127.0.0.1:9000/v1"
api_key = "sk-a-secret-key-of-the-operator"
model = "own-1"
"""


def settings_with(folder: Path, text: str = FILE) -> Settings:
    path = folder / "profiles.toml"
    path.write_text(text)
    return Settings(llm_profiles=path)


def test_the_default_is_what_the_environment_names() -> None:
    settings = Settings(
        llm_base_url="http://127.0.0.1:9/v1", llm_model="m", llm_api_key=SecretStr(KEY), llm_timeout_s=7
    )
    found = profile("default", settings)
    assert found is not None
    assert (found.base_url, found.model, found.timeout_s) == ("http://127.0.0.1:9/v1", "m", 7)
    assert found.secret.get_secret_value() == KEY
    assert (found.prices, found.limits.in_flight) == (Prices(), 64)
    assert profile("none", settings) is None


def test_the_embedded_llm_is_free_and_gets_few_calls_at_once() -> None:
    found = profile("default", Settings(llm_embedded=True))
    assert found is not None
    assert (found.prices, found.limits.in_flight) == (FREE, 4)
    chosen = profile("default", Settings(llm_embedded=True, llm_concurrency=9))
    assert chosen is not None
    assert chosen.limits.in_flight == 9


def test_the_file_adds_profiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_with(tmp_path)
    assert profiles.names(settings) == ("default", "none", "large", "own")
    large = profile("large", settings)
    assert large is not None
    assert (large.model, large.timeout_s, large.context_tokens) == ("large-1", 90, 128_000)
    assert large.prices == Prices(prompt=2.5, cached_prompt=0.25, completion=10)
    assert large.limits == Limits(requests_per_minute=500, tokens_per_minute=200_000, in_flight=100)
    assert large.recipe == {
        "model": "large-1",
        "endpoint": "https://llm.example/v1",
        "extra": {"reasoning_effort": "low"},
    }
    monkeypatch.setenv("TEST_LARGE_KEY", KEY)
    assert large.secret.get_secret_value() == KEY
    own = profile("own", settings)
    assert own is not None
    assert own.secret.get_secret_value() == KEY
    assert (own.prices.prompt, own.recipe) == (None, {"model": "own-1", "endpoint": "http://127.0.0.1:9000/v1"})
    assert KEY not in repr(own)
    assert KEY not in own.model_dump_json()


def test_a_key_that_is_not_in_the_environment_makes_the_work_wait(tmp_path: Path) -> None:
    large = profile("large", settings_with(tmp_path))
    assert large is not None
    with pytest.raises(LLMUnavailable, match="'large' needs the variable TEST_LARGE_KEY, which is not set") as raised:
        assert large.secret
    assert raised.value.retry_after_s >= 300


def test_an_unknown_profile_names_those_that_there_are(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="'gpt'; this installation has the profiles default, none, large, own"):
        profile("gpt", settings_with(tmp_path))


def test_an_edited_file_is_read_again(tmp_path: Path) -> None:
    settings = settings_with(tmp_path)
    settings_with(tmp_path, FILE.replace("own-1", "own-2"))
    own = profile("own", settings)
    assert own is not None
    assert own.model == "own-2"


def test_a_lease_outlives_the_slowest_profile(tmp_path: Path) -> None:
    assert profiles.lease_s(settings_with(tmp_path).model_copy(update={"llm_timeout_s": 60})) == 150
    assert profiles.lease_s(Settings(llm_timeout_s=60)) == 90


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no table"),
        ("[profiles", "can't be read"),
        ("profiles = 3", "no table"),
        ("[profiles]\nx = 3", "profiles.x must be a table"),
        ('[profiles.default]\nmodel = "m"', "can't be defined"),
        ('[profiles.none]\nmodel = "m"', "can't be defined"),
        ('[profiles.x]\nbase_url = "http://h"', r"\[profiles.x\] model: Field required"),
        ('[profiles.x]\nmodel = "m"\nbase_url = "ftp://h"', "base_url: String should match"),
        ('[profiles.x]\nmodel = "m"\nbase_url = "http://h"\ntemprature = 1', "temprature: Extra inputs"),
        ('[profiles.x]\nmodel = "m"\nbase_url = "http://h"\nprices.prompt = -1', "prices.prompt: Input should be"),
        ('[profiles.x]\nmodel = "m"\nbase_url = "http://h"\nprices.prompt = nan', "prices.prompt"),
        ('[profiles.x]\nmodel = "m"\nbase_url = "http://h"\nlimits.in_flight = 0', "limits.in_flight"),
        ('[profiles.x]\nmodel = "m"\nbase_url = "http://h"\napi_key = "sk-1"\napi_key_variable = "K"', "not both"),
        ('[profiles.x]\nmodel = "m"\nbase_url = "http://h"\napi_key = ["sk-very-secret"]', "api_key"),
    ],
)
def test_a_file_that_is_wrong_is_named_with_the_place_and_without_the_key(
    tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(BadProfiles, match=message) as raised:
        profiles.names(settings_with(tmp_path, text))
    assert "sk-" not in str(raised.value)


def test_a_file_that_is_not_there_is_said_without_its_path(tmp_path: Path) -> None:
    with pytest.raises(BadProfiles, match="No such file") as raised:
        profiles.names(Settings(llm_profiles=tmp_path / "gone.toml"))
    assert str(tmp_path) not in str(raised.value)


def test_writer_and_judge_are_the_describer_unless_named() -> None:
    spec = {"dictionary_id": "00000000-0000-0000-0000-000000000001"}
    assert RunSpec.model_validate({**spec, "llm": "a"}).profiles == ("a", "a", "a")
    assert RunSpec.model_validate({**spec, "llm": "a", "judge": "b"}).profiles == ("a", "a", "b")
    assert RunSpec.model_validate({**spec, "writer": "none"}).profiles == ("default", "none", "default")


def test_the_embedded_llm_is_the_same_at_any_port() -> None:
    recipes = [
        profiles.recipes(
            ("default", "none"), Settings(llm_embedded=embedded, llm_base_url=f"http://127.0.0.1:{port}/v1")
        )
        for embedded in (True, False)
        for port in (4000, 4001)
    ]
    assert recipes[0] == recipes[1] != recipes[2] != recipes[3]
    assert recipes[2]["default"] == {"model": Settings().llm_model, "endpoint": "http://127.0.0.1:4000/v1"}
    assert recipes[2]["none"] is None
