"""One question to the LLM server of the tests, and where its replies and calls are kept in memory."""

from collections.abc import Mapping
from typing import Any

from pydantic import SecretStr

from prompts import ask_for_choice
from schema.profiles import LLMProfile
from schema.store.calls import Call
from tests.llm_server import LLMServer
from workers.llm import Completion, complete
from workers.parse import JudgeReply

KEY = "sk-a-secret-key-of-the-operator"
ASK = ask_for_choice([["a river and a stream"], ["apples"], ["stone"]], 'fires on "apples"', b"secret")


class Kept(dict[str, Mapping[str, Any]]):
    """A completion cache in memory."""

    def put(self, sha256: str, body: Mapping[str, Any]) -> None:
        """Keep a reply."""
        self[sha256] = body


class Entered(list[Call]):
    """A ledger in memory."""

    def record(self, call: Call) -> None:
        """Enter a call."""
        self.append(call)


def profile_of(server: LLMServer, **changes: Any) -> LLMProfile:
    """Return the profile of a server."""
    fields = {
        "name": "test",
        "base_url": server.base_url,
        "api_key": SecretStr(KEY),
        "model": "rules",
        "timeout_s": 5.0,
    }
    return LLMProfile(**{**fields, **changes})


def judge(server: LLMServer, profile: LLMProfile | None = None, **options: Any) -> Completion[JudgeReply]:
    """Return what becomes of the question; B is right."""
    asked = profile or profile_of(server)
    return complete(asked, ASK.messages, JudgeReply, **{"max_tokens": 60, **options})
