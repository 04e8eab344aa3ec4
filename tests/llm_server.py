"""The only fake of the suite: an OpenAI-compatible server that answers by rules, from the prompt's words alone.

It knows nothing of what was planted. A describer names the marked and the promoted tokens that it was shown; a writer
makes sentences of the words that the description quotes; a judge counts the description's words in each set; an
embedding is a bag of hashed words. So whatever these calls achieve came through the evidence and the prompts.

    with LLMServer() as server:
        settings = Settings(llm_base_url=server.base_url, embeddings_base_url=server.base_url)
        server.mode = "down"

It can also misbehave, in every way that has been seen: see `Mode`.
"""

import base64
import hashlib
import json
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal, NamedTuple, Self

from workers.endpoint import close_clients

Mode = Literal[
    "ok",
    "down",  # connections are closed at once
    "rate_limited",  # 429 with Retry-After
    "no_credit",  # 429 with the code insufficient_quota
    "unauthorized",
    "error",  # 500
    "hang",  # accepts and says nothing
    "refuse",
    "nonsense",  # prose without JSON
    "wrong_shape",  # JSON of another form
    "truncated",  # half a JSON object, finish_reason length
    "whitespace",  # a whitespace flood
    "flood",  # a 50 MB body
    "html",  # 200 with a web page
    "markup",  # the asked JSON, with HTML in it
    "no_schema",  # 400 where a response format is asked
    "json_only",  # 400 where a JSON schema is asked, not where a JSON object is
    "no_system",  # 400 where there is a system turn, as by Gemma's template
    "no_system_500",  # the same from llama.cpp
    "reasoning_model",  # 400 for max_tokens, a temperature but 1 and a frequency penalty, as OpenAI's
    "no_model",  # 404, as by Ollama
    "small_context",  # 400 with vLLM's words
    "small_context_llama",  # 400 with llama.cpp's fields
    "schema_floods",  # a whitespace flood where a JSON schema is asked, as by llama.cpp and vLLM
    "fenced",  # takes any response format, heeds none: a sentence and a code fence around the answer, as by Ollama
    "misplaced",  # content null, the answer in reasoning_content, as by vLLM
    "thinking",  # content null, thoughts that hold a draft in `reasoning`, finish_reason length
    "parts",  # content as a list of parts
    "unmetered",  # no usage
    "empty",
    "loop",  # the asked JSON, going round in circles
    "parrot",  # the first example of the prompt, word for word
    "foreign",  # prose in another language than the question's
]
DIMENSIONS = 512
FLOOD_BYTES = 50_000_000
N_NEUTRAL_WORDS = 40
_WORD = re.compile(r"[^\W\d_]{2,}")
_DATA = re.compile(r"^<data (\w+)>\n(.*?)\n</data \1>$", re.MULTILINE | re.DOTALL)


class Request(NamedTuple):
    """What a client asked."""

    path: str
    body: dict[str, Any]


class LLMServer:
    """A server on a free loopback port, for as long as the context lasts.

    mode:           how it (mis)behaves; may be set at any time.
    misbehave:      if given, the mode holds only for requests whose number (0, 1, …) it accepts; or it names the mode.
    retry_after_s:  sent with `rate_limited`.
    slow_s:         how long every answer takes.
    requests:       everything that was asked, in order of arrival.
    metered:        the tokens of every completion that it began to send, as it counts them, prompt and answer.
    overcharge:     what it counts an answer as, times what it is.
    """

    def __init__(
        self, mode: Mode = "ok", *, misbehave: Callable[[int], bool | Mode] | None = None, retry_after_s: float = 0.0
    ) -> None:
        self.mode: Mode = mode
        self.misbehave = misbehave
        self.retry_after_s = retry_after_s
        self.slow_s = 0.0
        self.overcharge = 1
        self.requests: list[Request] = []
        self.metered: list[tuple[int, int]] = []
        self.closing = threading.Event()
        self._lock = threading.Lock()
        self._http = _Server(("127.0.0.1", 0), _Handler)
        self._http.owner = self
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    @property
    def base_url(self) -> str:
        """Return the URL to give to a client."""
        return f"http://127.0.0.1:{self._http.server_address[1]}/v1"

    @property
    def chats(self) -> list[Request]:
        """Return the requests for a chat completion."""
        return [request for request in self.requests if request.path.endswith("/chat/completions")]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()
        close_clients()

    def arrived(self, request: Request) -> Mode:
        """Count a request and return how to treat it."""
        with self._lock:
            number = len(self.requests)
            self.requests.append(request)
        chosen = True if self.misbehave is None else self.misbehave(number)
        return chosen if isinstance(chosen, str) else self.mode if chosen else "ok"


# ---------------------------------------------------------------------------------------------------------- answers


def answer(messages: list[dict[str, str]], schema: dict[str, Any] | None) -> str:
    """Return the reply to a chat: what is asked is told from the schema, else from the system turn."""
    asked = [m["content"] for m in messages if m["role"] == "user" and _DATA.search(m["content"])]
    if not asked:
        return "Yes."
    user = asked[-1]
    system = messages[0]["content"]
    fields = (
        set(schema["properties"])
        if schema
        else set(re.findall(r'"(trigger|activating|choice|t1|texts)"', user + system))
    )
    if "trigger" in fields:
        reply = describe(user)
        if "That was tested" in user:  # what it finds no more of stays as it was
            before = json.loads(messages[-2]["content"])
            reply = {facet: reply[facet] if '"' in reply[facet] else before[facet] for facet in before}
        return json.dumps(reply, ensure_ascii=False)
    if "activating" in fields:
        n = int(re.findall(r"(\d+) activating", user)[-1])
        return json.dumps(write(user, " ".join(m["content"] for m in messages[:-1]), n), ensure_ascii=False)
    if "description" in fields:
        return json.dumps({"description": summarise(user)}, ensure_ascii=False)
    if "texts" in fields:
        n = int(re.findall(r"(\d+) texts", user)[-1])
        return json.dumps({"texts": resemble(user, n)}, ensure_ascii=False)
    if "t1" in fields:
        return json.dumps(judge_contexts(user), ensure_ascii=False)
    return json.dumps(judge(user), ensure_ascii=False)


def describe(user: str) -> dict[str, str]:
    """Return the marked tokens as the trigger, the promoted ones (else the strengthened texts' words) as the effect."""
    lines = [line for block in _blocks(user) for line in block]
    texts = [line[1] if isinstance(line, list) else line for line in lines if not isinstance(line, dict)]
    marked = [m for text in texts for m in re.findall(r"<<(.*?)>>", text)]
    objects = [line for line in lines if isinstance(line, dict)]
    promoted = [t for o in objects for key in ("rise", "strengthened, rise") for t in o.get(key, [])]
    normal = {w for o in objects for w in words(o.get("normal", ""))}
    steered = [w for o in objects for w in words(o.get("strengthened", "")) if w not in normal]
    trigger, effect = _most(words(" ".join(marked))), _first(words(" ".join(promoted))) or _most(steered)
    if not trigger and not effect:
        return {"trigger": "No clear pattern.", "effect": "no clear pattern"}
    return {"trigger": _quoted(trigger), "effect": _quoted(effect)}


def write(user: str, rest: str, n: int) -> dict[str, list[str]]:
    """Return sentences with the description's trigger words, and sentences of words that it does not hold."""
    description = str(_blocks(user)[0][0])
    wanted = _wanted(description)
    others = [w for w in dict.fromkeys(words(rest)) if w not in set(words(description))][:N_NEUTRAL_WORDS]
    return {
        "activating": [f"The {wanted[i % len(wanted)]} and a {wanted[(i + 1) % len(wanted)]} {i}." for i in range(n)],
        "neutral": [f"The {others[i % len(others)]} of {others[-1 - i % len(others)]} {i}." for i in range(n)],
    }


def judge(user: str) -> dict[str, str]:
    """Return the set that holds most of the description's words; ties go to the first."""
    sets, (description,) = _blocks(user)
    wanted = set(words(str(description)))
    counts = [sum(word in wanted for texts in named.values() for word in words(" ".join(texts))) for named in sets]
    best = max(range(len(sets)), key=lambda i: counts[i])
    return {"reason": f"It holds {counts[best]} of the words.", "choice": "ABC"[best]}


def summarise(user: str) -> str:
    """Return what the paper's prompts ask for: the tokens with the largest activation, and those of the lists."""
    lines = [line for block in _blocks(user) for line in block]
    rows = [row.rsplit("\t", 1) for line in lines if isinstance(line, str) for row in line.split("\n")]
    active = _most(words(" ".join(token for token, value in rows if value == "10")))
    listed = _first(words(" ".join(token for line in lines if isinstance(line, list) for token in line)))
    facets = [_quoted(active), f"promotes {_quoted(listed)}" if listed else ""]
    return "; ".join(facet for facet in facets if facet) or "no clear pattern"


def resemble(user: str, n: int) -> list[str]:
    """Return texts that hold the marked words of the texts that are shown."""
    marked = [m for (block,) in [_blocks(user)] for text in block for m in re.findall(r"<<(.*?)>>", str(text))]
    wanted = _most(words(" ".join(marked))) or ["it"]
    return [f"A {wanted[i % len(wanted)]} for {i}." for i in range(n)]


def judge_contexts(user: str) -> dict[str, bool]:
    """Return for each text whether its marked words (all of them where none is) share one with the trigger."""
    texts, (description,) = _blocks(user)
    wanted = set(words(" ".join(_wanted(str(description)))))
    said = {name: text for named in texts for name, text in named.items()}
    shown = {name: " ".join(re.findall(r"<<(.*?)>>", text)) or text for name, text in said.items()}
    return {name: not wanted.isdisjoint(words(text)) for name, text in shown.items()}


def embedding(text: str) -> list[float]:
    """Return a bag of hashed words: cosines of texts tell how many words they share."""
    vector = [0.0] * DIMENSIONS
    for word in words(text):
        digest = hashlib.sha256(word.encode()).digest()
        vector[int.from_bytes(digest[:4]) % DIMENSIONS] += 1.0 if digest[4] % 2 else -1.0
    return vector


def words(text: str) -> list[str]:
    """Return the words of a text, without case."""
    return [word.casefold() for word in _WORD.findall(text)]


def _blocks(user: str) -> list[list[Any]]:
    """Return the quoted blocks of a turn, each as its JSON lines."""
    return [[json.loads(line) for line in found.group(2).splitlines()] for found in _DATA.finditer(user)]


def _wanted(description: str) -> list[str]:
    """Return the quoted words of a description's trigger, else of its effect, else all of its words."""
    alone = re.sub(r" \((?:after|before) [^)]*\)", "", description)
    trigger, effect = (*re.split(r"; (?:then )?promotes ", alone, maxsplit=1), "")[:2]
    return re.findall(r'"([^"]+)"', trigger) or re.findall(r'"([^"]+)"', effect) or words(description) or ["it"]


def _first(found: list[str], n: int = 6) -> list[str]:
    return list(dict.fromkeys(found))[:n]


def _most(found: list[str], n: int = 4) -> list[str]:
    """Return the most frequent words; of equals the first."""
    return sorted(dict.fromkeys(found), key=lambda word: -found.count(word))[:n]


def _quoted(found: list[str]) -> str:
    return ", ".join(f'"{word}"' for word in found)[:160]


# ------------------------------------------------------------------------------------------------------------ HTTP


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 512  # hundreds connect at once
    owner: LLMServer

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Stay silent: clients that hang up are part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        self._send(200, {"object": "list", "data": [{"id": "rules", "object": "model"}], "status": "ok"})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        mode = self.server.owner.arrived(Request(self.path, body))
        self.server.owner.closing.wait(self.server.owner.slow_s)
        if mode == "down":
            self._hang_up()
        elif mode == "hang":
            self.server.owner.closing.wait(600)
            self._hang_up()
        elif mode in _FAILURES:
            status, error = _FAILURES[mode]
            headers = {"Retry-After": f"{self.server.owner.retry_after_s:g}"} if mode == "rate_limited" else {}
            self._send(status, {"error": error}, headers)
        elif mode == "flood":
            self._flood()
        elif mode == "html":
            self._send_bytes(200, b"<!doctype html><title>Sign in</title>", "text/html")
        elif (refusal := _refusal(body, mode)) is not None:
            self._send(500 if mode == "no_system_500" else 400, {"error": refusal})
        elif self.path.endswith("/embeddings"):
            self._send(200, _embeddings(body))
        else:
            completion, tokens = _completion(body, mode, self.server.owner.overcharge)
            self.server.owner.metered.append(tokens)
            self._send(200, completion)

    def _hang_up(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def _flood(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(FLOOD_BYTES))
        self.end_headers()
        chunk = b" " * 100_000
        for _ in range(FLOOD_BYTES // len(chunk)):
            self.wfile.write(chunk)

    def _send(self, status: int, body: dict[str, Any], headers: dict[str, str] | None = None) -> None:
        self._send_bytes(status, json.dumps(body).encode(), "application/json", headers or {})

    def _send_bytes(self, status: int, body: bytes, kind: str, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Stay silent."""


_FAILURES: dict[str, tuple[int, dict[str, str]]] = {
    "rate_limited": (429, {"message": "slow down", "code": "rate_limit_exceeded"}),
    "no_credit": (429, {"message": "you have run out of credit", "code": "insufficient_quota"}),
    "unauthorized": (401, {"message": "incorrect API key", "code": "invalid_api_key"}),
    "error": (500, {"message": "internal error"}),
    "no_model": (404, {"message": 'model "rules" not found, try pulling it first', "type": "not_found_error"}),
}
_REASONING_MODEL: dict[str, tuple[Any, str]] = {
    "max_tokens": (None, "is not supported with this model. Use 'max_completion_tokens' instead."),
    "temperature": (1, "does not support this value with this model. Only the default (1) value is supported."),
    "frequency_penalty": (None, "is not supported with this model."),
}
"""What a parameter may be where it is given at all, and what is said of anything else."""


def _refusal(body: dict[str, Any], mode: Mode) -> dict[str, Any] | None:
    """Return the error of a request that a server with such a quirk refuses, in the words of a real one."""
    form = body.get("response_format", {}).get("type")
    has_system = any(message["role"] == "system" for message in body.get("messages", ()))
    match mode:
        case "no_schema" if form:
            return {"message": "response_format is not supported", "code": "bad_request"}
        case "json_only" if form == "json_schema":
            return {"message": "This response_format type is unavailable now", "type": "invalid_request_error"}
        case "no_system" | "no_system_500" if has_system:
            return {"message": "System role not supported"}
        case "reasoning_model":
            wrong = (name for name, (only, _) in _REASONING_MODEL.items() if body.get(name, only) != only)
            return next((_unsupported(name) for name in wrong), None)
        case "small_context":
            said = "This model's maximum context length is 64 tokens. However, you requested 412 tokens (352 in the "
            return {"message": said + "messages, 60 in the completion).", "code": "context_length_exceeded"}
        case "small_context_llama":
            said = "the request exceeds the available context size, try increasing it"
            return {"message": said, "type": "exceed_context_size_error", "n_prompt_tokens": 352, "n_ctx": 64}
    return None


def _unsupported(name: str) -> dict[str, Any]:
    said = f"Unsupported parameter: '{name}' {_REASONING_MODEL[name][1]}"
    return {"message": said, "param": name, "code": "unsupported_parameter"}


def _completion(body: dict[str, Any], mode: Mode, overcharge: int) -> tuple[dict[str, Any], tuple[int, int]]:
    """Return the body of a response, and the tokens that it costs."""
    schema = body.get("response_format", {}).get("json_schema", {}).get("schema")
    text, finish_reason = answer(body["messages"], schema), "stop"
    n_prompt = sum(len(message["content"].split()) for message in body["messages"])
    match mode:
        case "refuse":
            text = "I'm sorry, but I can't assist with that request."
        case "nonsense":
            text = "What a question! It reminds me of the sea."
        case "wrong_shape":
            text = '{"answer": 42}'
        case "truncated":
            text, finish_reason = text[: len(text) // 2], "length"
        case "schema_floods" if schema is None:
            pass
        case "whitespace" | "schema_floods":
            text, finish_reason = text[:10] + "\n" * 5000, "length"
        case "markup":
            text = re.sub(r'": "', '": "<script>alert(1)</script>', text, count=1)
            text = re.sub(r'": \["', '": ["<script>alert(1)</script>', text, count=1)
        case "fenced":
            text = f"Here is the JSON that you asked for:\n```json\n{text}\n```"
        case "empty":
            text = ""
        case "loop":
            circle = "the end of a verb; " * 5
            text = json.dumps({"trigger": circle, "effect": "", "reason": circle * 20, "choice": "A"})
        case "parrot":
            text = next(message["content"] for message in body["messages"] if message["role"] == "assistant")
        case "foreign":
            text = "这个特征似乎与河流有关。"
        case "thinking":
            finish_reason = "length"
    tokens = (n_prompt, overcharge * len(text.split()))
    return {
        "id": "rules",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": body.get("model", "rules"),
        "choices": [
            {"index": 0, "finish_reason": finish_reason, "message": {"role": "assistant", **_content(text, mode)}},
        ],
        **({} if mode == "unmetered" else {"usage": _usage(*tokens)}),
    }, tokens


def _content(text: str, mode: Mode) -> dict[str, Any]:
    """Return where a server puts what its model said."""
    match mode:
        case "misplaced":
            return {"content": None, "reasoning_content": text}
        case "thinking":
            return {"content": None, "reasoning": f"The form is {text}. Now let me think about rivers"}
        case "parts":
            return {"content": [{"type": "text", "text": text[:9]}, {"type": "text", "text": text[9:]}]}
    return {"content": text}


def _usage(n_prompt: int, n_completion: int) -> dict[str, Any]:
    counts = {"prompt_tokens": n_prompt, "completion_tokens": n_completion, "total_tokens": n_prompt + n_completion}
    return {**counts, "prompt_tokens_details": {"cached_tokens": 0}}


def _embeddings(body: dict[str, Any]) -> dict[str, Any]:
    texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
    vectors = [embedding(text) for text in texts]
    if body.get("encoding_format") == "base64":
        packed: Iterator[Any] = (base64.b64encode(struct.pack(f"<{DIMENSIONS}f", *v)).decode() for v in vectors)
    else:
        packed = iter(vectors)
    data = [{"object": "embedding", "index": i, "embedding": vector} for i, vector in enumerate(packed)]
    return {"object": "list", "model": "rules", "data": data, "usage": {"prompt_tokens": 0, "total_tokens": 0}}
