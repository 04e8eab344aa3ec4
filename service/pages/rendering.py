"""How pages are rendered: templates, what all of them know, and how values are written in them."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from service.auth import Caller
from service.pages import assets

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
"""Of every page: nothing inline, nothing from elsewhere."""

_TEMPLATES = Path(__file__).parent.parent / "templates"
_MINUS = "\N{MINUS SIGN}"


def page(request: Request, template: str, *, status: int = 200, **values: Any) -> HTMLResponse:
    """Return a template as a page."""
    caller: Caller | None = getattr(request.state, "caller", None)
    text = _ENVIRONMENT.get_template(template).render(request=request, caller=caller, **values)
    return HTMLResponse(text, status, headers={"Content-Security-Policy": POLICY})


def number(value: float | None, digits: int = 2, sign: bool = False) -> str:
    """Return a number as people read it, with a real minus sign; a dash where there is none."""
    if value is None:
        return "–"
    return f"{value:{'+' if sign else ''}.{digits}f}".replace("-", _MINUS)


def significant(value: float | None, digits: int = 3) -> str:
    """Return a number with so many digits that count, whatever its size."""
    return "–" if value is None else f"{value:.{digits}g}".replace("-", _MINUS)


def count(value: int | None) -> str:
    """Return a count with its thousands apart."""
    return "–" if value is None else f"{value:,}"


def percent(value: float | None) -> str:
    """Return a share in percent: with as many digits as tell it from none, and from all."""
    if value is None:
        return "–"
    if value == 0 or value >= 0.1:
        return f"{value:.0%}"
    return f"{100 * value:.2g} %".replace(" ", "")


def when(value: datetime | None) -> Markup:
    """Return a time as an element that scripts show in the reader's own time zone."""
    if value is None:
        return Markup("–")
    known = value.astimezone(UTC)
    return Markup('<time datetime="{}">{}</time>').format(known.isoformat(), known.strftime("%Y-%m-%d %H:%M UTC"))


def duration(seconds: float | None) -> str:
    """Return how long something takes in one or two units."""
    if seconds is None:
        return "–"
    if seconds < 60:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if minutes < 10 else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"


def spoken(text: str | None) -> Markup:
    """Return a text that others wrote, apart from what is around it: none of it can turn the page's own order."""
    return Markup("<bdi>{}</bdi>").format(text or "")


_INVISIBLE = {" ": "·", "\n": "⏎", "\t": "⇥", "\r": "␍"}


def token(text: str) -> Markup:
    """Return a token so that every character of it can be seen: whitespace as signs, in elements of their own."""
    parts = [
        Markup('<span class="ws">{}</span>').format(_INVISIBLE[char])
        if char in _INVISIBLE
        else escape(char if char.isprintable() else f"\\u{{{ord(char):x}}}")
        for char in text
    ]
    return Markup("<bdi>{}</bdi>").format(Markup("").join(parts))


def dictionary_path(id_: UUID) -> str:
    """Return the path of a dictionary's page."""
    return f"/dictionaries/{id_}"


def feature_path(dictionary_id: UUID, index: int) -> str:
    """Return the path of a feature's page: a permalink."""
    return f"/dictionaries/{dictionary_id}/features/{index}"


def run_path(id_: UUID) -> str:
    """Return the path of a run's page."""
    return f"/runs/{id_}"


def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(
        number=number,
        significant=significant,
        count=count,
        percent=percent,
        when=when,
        duration=duration,
        spoken=spoken,
        token=token,
    )
    made.globals.update(
        static=assets.ROOT, dictionary_path=dictionary_path, feature_path=feature_path, run_path=run_path
    )
    return made


_ENVIRONMENT = _environment()
