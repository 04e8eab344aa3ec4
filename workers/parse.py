"""Reply text to a typed answer, or `BadReply` with the reason.

Tolerant of what surrounds the answer (code fences, a sentence before it, a reasoning block), never of what is in it:
nothing is invented, cut or completed. What a server promised about the schema is not trusted.
"""

import json
import re
from collections.abc import Iterator
from functools import cache
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    ValidationError,
    create_model,
    model_validator,
)

from prompts.composing import compose
from schema.errors import BadReply, Refused
from schema.labels import Status
from schema.plain import check_unmarked

MAX_REPLY_CHARS = 20_000
MAX_BLANK_RUN = 40  # llama.cpp and vLLM both have answered a JSON schema with endless whitespace
MAX_OBJECTS_TRIED = 50
# Small models fall into loops ("the end of a verb; the end of a verb; …"), which no schema forbids.
FEWEST_WORDS_OF_A_LOOP = 9
LEAST_DIFFERENT = 0.36

_NO_PATTERN = re.compile(r"\bno (clear |obvious |single |specific )?pattern\b", re.IGNORECASE)
_REFUSAL = re.compile(
    r"""\s*
    (?: (?: i['\u2019]m\ sorry | i\ am\ sorry | sorry | i\ apologi[sz]e | unfortunately | as\ an\ ai\b[^,.]{0,40} )
        [\s,.:;!-]* )?
    (?: but\s+ )?
    i (?: ['\u2019]m | \ am )? \s*
    (?: unable\ to | not\ able\ to | can['\u2019]?t | cannot | can\ not | won['\u2019]?t | will\ not
      | must\ decline\ to | do\ not | don['\u2019]t )
    \s+
    (?: assist | help | comply | provide | fulfil | answer | do\ that | do\ this | describe | analy[sz]e
      | continue | write | create | generate | have\ access )""",
    re.IGNORECASE | re.VERBOSE,
)
# An apology alone may be what a feature fires on; with what can't be done it is a refusal in any language.
_REFUSAL_ELSEWHERE = re.compile(
    r"""\s*
    (?: lo\ siento .{0,20} \b no\ puedo
      | (?: je\ suis\ )? d[ée]sol[ée]e? .{0,20} \b je\ ne\ (?: peux | suis )
      | (?: es\ tut\ mir\ (?: sehr\ )? leid | entschuldigung ) .{0,20} \b (?: ich\ kann | kann\ ich )
      | (?: desculpe | sinto\ muito | lamento ) .{0,20} \b n[ãa]o\ posso
      | mi\ dispiace .{0,20} \b non\ posso
      | (?: извините | к\ сожалению ) .{0,20} \b не\ могу
      | (?: 对不起 | 抱歉 | 很抱歉 | 對不起 | 很遗憾 ) .{0,8} (?: 无法 | 不能 | 無法 )
      | 申し訳 .{0,60} (?: できません | いたしかねます )
      | 죄송 .{0,60} (?: 없습니다 | 수\ 없 )
    )""",
    re.IGNORECASE | re.VERBOSE,
)
_TAGS = (
    "a|abbr|article|audio|b|base|body|br|button|canvas|code|div|embed|em|font|footer|form|frame|h[1-6]|head|header|hr|"
    "html|i|iframe|img|input|label|li|link|main|math|meta|nav|object|ol|option|p|pre|script|section|select|small|span|"
    "strong|style|sub|sup|svg|table|tbody|td|template|textarea|th|thead|title|tr|u|ul|video"
)
# A mark like <<a>> is ours and no element.
_HTML = re.compile(rf"(?<!<)</?({_TAGS})\b[^<>]*/?>|<!--|<!doctype|&#x?[0-9a-f]+;", re.IGNORECASE)
_DELIMITER = re.compile(r"</?data\b", re.IGNORECASE)  # of quoted data: only a prompt writes it
# Of what is said to a malformed reply: small models repeat it.
_REPAIR = re.compile(r"\banswer again\b|\bh(?:olds?|eld) no word\b|reply can['\u2019]?t be used", re.IGNORECASE)
_LINK = re.compile(r"\b[a-z][a-z0-9+.-]{1,9}://|\bwww\.\w|\b(javascript|mailto):\S|\bdata:\w+/", re.IGNORECASE)


def plain(text: str) -> str:
    """Return the text with runs of blanks made one; ValueError if it holds control characters, HTML or a link."""
    # Before the other blanks are made one: some control characters count as blank.
    text = check_unmarked(re.sub(r"[ \t\r\n]+", " ", text).strip())
    if found := _HTML.search(text):
        raise ValueError(f"holds HTML: {found.group()[:40]}")
    if found := _LINK.search(text):
        raise ValueError(f"holds a link: {found.group()[:40]}")
    return " ".join(text.split())


def _declared(text: str) -> str:
    """Return the text of a description's field; ValueError if it is a refusal, or goes round in circles."""
    if _is_refusal(text):
        raise ValueError("refused")
    if found := _REPAIR.search(text):
        raise ValueError(f"copies the prompt: {found.group()}")
    if found := _DELIMITER.search(text):
        raise ValueError(f"copies the prompt's delimiter: {found.group()}")
    words = re.findall(r"\w+", text.casefold())
    if len(words) >= FEWEST_WORDS_OF_A_LOOP and len(set(words)) < LEAST_DIFFERENT * len(words):
        raise ValueError("repeats itself")
    return plain(text)


class Reply(BaseModel):
    """An answer that an LLM was asked for. Unknown fields are dropped, never read."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    name: ClassVar[str] = "reply"
    length: ClassVar[float] = 1.0
    """Share of the usual lengths that an endpoint is asked to keep its texts to; see `shortened`."""

    @classmethod
    def json_schema(cls) -> dict[str, Any]:
        """Return the JSON schema to send along, in the subset that llama.cpp, vLLM and OpenAI all take."""
        schema = cls.model_json_schema()
        schema.pop("title", None)
        schema.pop("description", None)
        for field in schema["properties"].values():
            field.pop("title", None)
            for texts in (field, field.get("items", {})):
                if "maxLength" in texts:
                    texts["maxLength"] = round(cls.length * texts["maxLength"])
        return {**schema, "additionalProperties": False}


def _facet(text: str) -> str:
    """Return what a describer says of one side of a feature; nothing where it says that there is no pattern."""
    said = _declared(text)
    return "" if _NO_PATTERN.search(said) else said


Facet = Annotated[str, Field(max_length=240, json_schema_extra={"maxLength": 80}), AfterValidator(_facet)]


class DescriptionReply(Reply):
    """What a describer says of a feature: tokens, then what they have in common; see `composing.compose`."""

    name: ClassVar[str] = "description"
    trigger: Facet
    effect: Facet

    @property
    def text(self) -> str:
        """Return one sentence for both facets."""
        return compose(self.trigger, self.effect)

    @property
    def status(self) -> Status:
        """Return `no_pattern` where the describer found none in either facet, else `ok`."""
        return Status.OK if self.trigger or self.effect else Status.NO_PATTERN

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        both = self.trigger + self.effect
        if both and not any(character.isalnum() for character in both):
            raise ValueError("holds no word")
        return self


class SummaryReply(Reply):
    """What a describer says of a feature in one sentence, as the paper's prompts ask for it."""

    name: ClassVar[str] = "description"
    description: Annotated[str, AfterValidator(_facet)] = Field(max_length=600, json_schema_extra={"maxLength": 240})

    @property
    def text(self) -> str:
        """Return the sentence."""
        return self.description

    @property
    def trigger(self) -> None:
        """Return nothing: the facets are not told apart."""

    @property
    def effect(self) -> None:
        """Return nothing: the facets are not told apart."""

    @property
    def status(self) -> Status:
        """Return `no_pattern` where the describer found none, else `ok`."""
        return Status.OK if self.description else Status.NO_PATTERN


Sentence = Annotated[
    str, Field(min_length=2, max_length=200, json_schema_extra={"maxLength": 64}), AfterValidator(plain)
]


class SentencesReply(Reply):
    """What the writer wrote from a description."""

    name: ClassVar[str] = "sentences"
    activating: tuple[Sentence, ...]
    neutral: tuple[Sentence, ...]

    @model_validator(mode="after")
    def _sides_differ(self) -> Self:
        if not all(any(c.isalnum() for c in sentence) for sentence in self.activating + self.neutral):
            raise ValueError("a sentence holds no word")
        if set(self.activating) <= set(self.neutral) or set(self.neutral) <= set(self.activating):
            raise ValueError("the activating and the neutral sentences are the same")
        return self


@cache
def sentences_reply(n: int) -> type[SentencesReply]:
    """Return the answer that holds exactly n sentences of each kind."""
    several = Annotated[tuple[Sentence, ...], Field(min_length=n, max_length=n)]
    return create_model("SentencesReply", __base__=SentencesReply, activating=(several, ...), neutral=(several, ...))


class SimilarReply(Reply):
    """Texts that resemble exemplars."""

    name: ClassVar[str] = "texts"
    texts: tuple[Sentence, ...]

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not all(any(c.isalnum() for c in text) for text in self.texts):
            raise ValueError("a text holds no word")
        return self


@cache
def similar_reply(n: int) -> type[SimilarReply]:
    """Return the answer that holds exactly n texts."""
    several = Annotated[tuple[Sentence, ...], Field(min_length=n, max_length=n)]
    return create_model("SimilarReply", __base__=SimilarReply, texts=(several, ...))


class JudgeReply(Reply):
    """The set that a judge chose, and why."""

    name: ClassVar[str] = "choice"
    reason: Annotated[str, AfterValidator(plain)] = Field(max_length=300, json_schema_extra={"maxLength": 80})
    choice: Literal["A", "B", "C"]


class ContextsReply(Reply):
    """What a judge says of texts named t1, t2 …: true or false each."""

    name: ClassVar[str] = "contexts"

    @property
    def answers(self) -> list[bool]:
        """Return the answers in the order of the texts."""
        return [bool(answer) for answer in self.model_dump().values()]


@cache
def contexts_reply(n: int) -> type[ContextsReply]:
    """Return the answer that says true or false of n texts."""
    fields: dict[str, Any] = {f"t{i}": (StrictBool, ...) for i in range(1, n + 1)}
    return create_model("ContextsReply", __base__=ContextsReply, **fields)


AnyReply = TypeVar("AnyReply", bound=Reply)


@cache
def shortened(answer: type[AnyReply], length: float) -> type[AnyReply]:
    """Return an answer whose texts are asked for in a share of their usual length; longer ones are taken as well."""
    return type(answer.__name__, (answer,), {"length": length, "__module__": answer.__module__})


def parse_reply(text: str, answer: type[AnyReply], finish_reason: str = "stop") -> AnyReply:
    """Return the answer that a reply holds.

    finish_reason:  as the endpoint gave it; `length` is malformed whatever the text looks like.
    Raises: Refused if the model declined; BadReply with the reason for anything else that is not the answer.
    """
    if finish_reason == "content_filter":
        raise Refused("the endpoint's content filter stopped the reply")
    if finish_reason == "length":
        raise BadReply("it was cut off at the length limit")
    if len(text) > MAX_REPLY_CHARS:
        raise BadReply(f"it has {len(text)} characters; at most {MAX_REPLY_CHARS} are read")
    if is_flooded(text):
        raise BadReply(f"it holds {MAX_BLANK_RUN} blanks in a row")
    text = text.rsplit("</think>", 1)[-1]
    reasons = []
    for value in _objects(text):
        try:
            return answer.model_validate(value)
        except ValidationError as exc:
            reasons.append(_reason(exc))
    if _is_refusal(text) or any(reason.endswith("refused") for reason in reasons):
        raise Refused("the model declined to answer")
    raise BadReply(reasons[0] if reasons else "it holds no JSON object")


def is_flooded(text: str) -> bool:
    """Return whether a reply holds a whitespace flood."""
    return re.search(rf"\s{{{MAX_BLANK_RUN}}}", text) is not None


def _is_refusal(text: str) -> bool:
    return bool(_REFUSAL.match(text) or _REFUSAL_ELSEWHERE.match(text))


def _objects(text: str) -> Iterator[dict[str, Any]]:
    """Yield the JSON objects of a text, outermost ones only."""
    decoder = json.JSONDecoder()
    at = text.find("{")
    for _ in range(MAX_OBJECTS_TRIED):
        if at < 0:
            return
        end = at + 1
        try:
            value, end = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            value = None
        if isinstance(value, dict):
            yield value
        at = text.find("{", end)


def _reason(exc: ValidationError) -> str:
    """Return the first complaint, short enough to send back."""
    first = exc.errors(include_url=False, include_context=False, include_input=False)[0]
    said = first["msg"].removeprefix("Value error, ")
    place = ".".join(str(step) for step in first["loc"])
    return f"{place}: {said}" if place else said
