"""An OpenAI-compatible server of one model, for measurements on a CPU: whole batches in bf16, replies held to a schema.

    pip install xgrammar
    python -m tests.quality.llm_server --model FILE.gguf --folder build/quality --port 8089

llama.cpp's prebuilt wheel has no AMX kernels: on two cores torch reads prompts six times as fast, and writes three
times as fast in batches of 32. transformers generates, xgrammar holds the replies to their schema; here requests are
only put together.
"""

import argparse
import asyncio
import json
import queue
import sys
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import torch
import uvicorn
import xgrammar
from fastapi import FastAPI, Request
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache, GgufConfig, LogitsProcessor
from xgrammar.contrib.hf import LogitsProcessor as GrammarProcessor

AT_ONCE = 64
_WAIT_S = 3.0  # for company
_BEGINNING = 64  # tokens: prompts of one kind are about as long, and little of a batch is padding


@dataclass
class Asked:
    """A request that waits for its answer."""

    ids: list[int]
    max_tokens: int
    temperature: float
    penalty: float
    seed: int
    schema: str | None
    answer: Future[dict[str, Any]] = field(default_factory=Future)

    @property
    def key(self) -> tuple[object, ...]:
        """Return what decides the answer: who asks again after a time-out is given what was made meanwhile."""
        return (tuple(self.ids), self.max_tokens, self.temperature, self.penalty, self.seed, self.schema)

    @property
    def alike(self) -> tuple[object, ...]:
        """Return what requests of one batch have in common: how to sample, and how they begin."""
        return (self.temperature, self.penalty, self.max_tokens, tuple(self.ids[:_BEGINNING]))


class FrequencyPenalty(LogitsProcessor):  # type: ignore[misc]
    """OpenAI's: every time that a token was written, it is less likely by the penalty."""

    def __init__(self, penalty: float, n_prompt: int) -> None:
        self._penalty, self._n_prompt = penalty, n_prompt

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Return the scores (B, V) less the penalties of the tokens written so far, input_ids (B, T)."""
        written = input_ids[:, self._n_prompt :]
        return scores.scatter_add(1, written, torch.full(written.shape, -self._penalty, dtype=scores.dtype))


class Draw(LogitsProcessor):  # type: ignore[misc]
    """Sampling by the inverse of the cumulative distribution: torch.multinomial takes most of a step of 64 rows."""

    def __init__(self, temperature: float) -> None:
        self._temperature = temperature

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Return scores (B, V) of which the largest of each row is the token that was drawn."""
        reached = torch.softmax(scores / self._temperature, -1).cumsum(-1)
        drawn = torch.searchsorted(reached, torch.rand(len(scores), 1) * reached[:, -1:], right=True)
        return torch.full_like(scores, -torch.inf).scatter_(1, drawn.clamp(max=scores.shape[1] - 1), 0.0)


class Server:
    """The model, and the thread that answers batches."""

    def __init__(self, folder: Path) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).eval()
        self._pad = self.tokenizer.pad_token_id or self.tokenizer.eos_token_id
        info = xgrammar.TokenizerInfo.from_huggingface(self.tokenizer, vocab_size=self.model.config.vocab_size)
        self._compiler = xgrammar.GrammarCompiler(info)
        self._compiled = cache(self._compiler.compile_json_schema)
        self._any = self._compiler.compile_grammar("root ::= [^]*")
        self._asked: queue.Queue[Asked] = queue.Queue()
        self._known: dict[tuple[object, ...], Future[dict[str, Any]]] = {}
        self._lock = threading.Lock()
        threading.Thread(target=self._work, daemon=True).start()

    def ask(self, body: dict[str, Any]) -> "Future[dict[str, Any]]":
        """Return the answer to come."""
        text = self.tokenizer.apply_chat_template(body["messages"], tokenize=False, add_generation_prompt=True)
        schema = (body.get("response_format") or {}).get("json_schema", {}).get("schema")
        asked = Asked(
            ids=self.tokenizer(text, add_special_tokens=False)["input_ids"],
            max_tokens=int(body.get("max_tokens") or body.get("max_completion_tokens") or 256),
            temperature=float(body.get("temperature") or 0.0),
            penalty=float(body.get("frequency_penalty") or 0.0),
            seed=int(body.get("seed") or 0),
            schema=json.dumps(schema) if schema else None,
        )
        with self._lock:
            known = self._known.get(asked.key)
            if known is not None and not (known.done() and known.exception()):
                return known
            self._known[asked.key] = asked.answer
        self._asked.put(asked)
        return asked.answer

    def _work(self) -> None:
        waiting: list[Asked] = []
        while True:
            if not waiting:
                waiting.append(self._asked.get())
            self._fill(waiting)
            batch = [one for one in waiting if one.alike == waiting[0].alike][:AT_ONCE]
            waiting = [one for one in waiting if one not in batch]
            try:
                self._answer(batch)
            except Exception as exc:  # a thread has no caller: whoever asked is told
                for one in batch:
                    one.answer.set_exception(exc)

    def _fill(self, waiting: list[Asked]) -> None:
        deadline = time.monotonic() + _WAIT_S
        while (left := deadline - time.monotonic()) > 0:
            try:
                waiting.append(self._asked.get(timeout=left))
            except queue.Empty:
                return

    @torch.inference_mode()
    def _answer(self, batch: list[Asked]) -> None:
        started = time.monotonic()
        n_shared = _n_shared([one.ids for one in batch])
        longest = max(len(one.ids) for one in batch)
        rows = [one.ids[:n_shared] + [self._pad] * (longest - len(one.ids)) + one.ids[n_shared:] for one in batch]
        mask = [[1] * n_shared + [0] * (longest - len(one.ids)) + [1] * (len(one.ids) - n_shared) for one in batch]
        torch.manual_seed(hash(tuple((tuple(one.ids), one.seed) for one in batch)) % 2**63)
        first = batch[0]
        processors: list[Any] = [GrammarProcessor([self._grammar(one) for one in batch])]
        if first.penalty:
            processors.insert(0, FrequencyPenalty(first.penalty, longest))
        if first.temperature > 0:
            processors.append(Draw(first.temperature))
        made = self.model.generate(
            torch.tensor(rows),
            attention_mask=torch.tensor(mask),
            past_key_values=self._read_once(batch[0].ids[:n_shared], len(batch)),
            max_new_tokens=first.max_tokens,
            pad_token_id=self._pad,
            logits_processor=processors,
            do_sample=False,
            temperature=None,
            top_p=None,
            top_k=None,
        )
        for one, row in zip(batch, made[:, longest:].tolist(), strict=True):
            one.answer.set_result(self._body(one, row, n_shared))
        took = time.monotonic() - started
        sys.stdout.write(f"{len(batch)} answers, {n_shared} of {longest} tokens shared, {took:.1f} s\n")
        sys.stdout.flush()

    def _read_once(self, shared: list[int], n: int) -> DynamicCache:
        """Return the keys and values of what all begin with, for each of n."""
        kept = DynamicCache(config=self.model.config)
        if shared:
            self.model(torch.tensor([shared]), past_key_values=kept, use_cache=True, logits_to_keep=1)
            kept.batch_repeat_interleave(n)
        return kept

    def _grammar(self, one: Asked) -> Any:
        return self._compiled(one.schema, any_whitespace=False) if one.schema else self._any

    def _body(self, one: Asked, row: list[int], n_shared: int) -> dict[str, Any]:
        ends = set(
            self.model.generation_config.eos_token_id
            if isinstance(self.model.generation_config.eos_token_id, list)
            else [self.model.generation_config.eos_token_id]
        )
        length = next((i for i, token in enumerate(row) if token in ends), None)
        written = row if length is None else row[:length]
        return {
            "id": "chatcmpl-0",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": "local",
            "choices": [
                {
                    "index": 0,
                    "finish_reason": "length" if length is None else "stop",
                    "message": {
                        "role": "assistant",
                        "content": self.tokenizer.decode(written, skip_special_tokens=True),
                    },
                }
            ],
            "usage": {
                "prompt_tokens": len(one.ids),
                "completion_tokens": len(written) + 1,
                "total_tokens": len(one.ids) + len(written) + 1,
                "prompt_tokens_details": {"cached_tokens": n_shared},
            },
        }


def _n_shared(rows: list[list[int]]) -> int:
    """Return how many tokens all rows begin with; at least one of each row is left over."""
    shortest = min(len(row) for row in rows) - 1
    return next((i for i in range(shortest) if len({row[i] for row in rows}) > 1), shortest) if len(rows) > 1 else 0


def convert(model: Path, folder: Path) -> Path:
    """Return the folder of a GGUF file's model with plain bf16 weights, written the first time."""
    from safetensors.torch import save_model

    target = folder / f"{model.stem}-bf16"
    if not (target / "config.json").exists():
        where: dict[str, Any] = {"pretrained_model_name_or_path": str(model.parent), "gguf_file": model.name}
        AutoTokenizer.from_pretrained(**where).save_pretrained(target)
        plain = GgufConfig(dequantize=True)
        loaded = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.bfloat16, quantization_config=plain)
        loaded.config.architectures = [type(loaded).__name__]
        save_model(loaded, str(target / "model.safetensors"), metadata={"format": "pt"})
        loaded.generation_config.save_pretrained(target)
        loaded.config.save_pretrained(target)
    return target


def app(server: Server) -> FastAPI:
    """Return the HTTP side."""
    api = FastAPI()

    @api.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @api.post("/v1/chat/completions")
    async def chat(request: Request) -> dict[str, Any]:
        return await asyncio.shield(asyncio.wrap_future(server.ask(await request.json())))

    return api


def main() -> None:
    """Serve until told to end."""
    parser = argparse.ArgumentParser(prog="python -m tests.quality.llm_server", description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="a GGUF file")
    parser.add_argument("--folder", type=Path, required=True, help="where it is kept with plain weights")
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args()
    uvicorn.run(app(Server(convert(options.model, options.folder))), port=options.port, log_level="warning")


if __name__ == "__main__":
    main()
