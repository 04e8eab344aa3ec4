"""Signing in: the browser keeps an API key in a cookie that no script can read, until it is signed out."""

from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import RedirectResponse, Response

from schema.errors import Unauthorized
from service.deps import KEY_COOKIE, Held
from service.pages.rendering import page

router = APIRouter()

_KEPT_S = 90 * 86400


@router.get("/sign-in")
def ask(request: Request, next: str = "/") -> Response:
    """Ask for a key."""
    return page(request, "sign_in.html", next=_inside(next), problem=None)


@router.post("/sign-in")
def sign_in(
    request: Request, held: Held, key: Annotated[str, Form(max_length=500)], next: Annotated[str, Form()] = "/"
) -> Response:
    """Keep a key, and go where somebody wanted to go."""
    text = key.strip()
    try:
        held.gate.identify(text, "GET", None)
    except Unauthorized as exc:
        return page(request, "sign_in.html", status=401, next=_inside(next), problem=str(exc))
    response = RedirectResponse(_inside(next), 303)
    is_secure = request.url.scheme == "https"
    response.set_cookie(KEY_COOKIE, text, max_age=_KEPT_S, httponly=True, samesite="lax", secure=is_secure)
    return response


@router.post("/sign-out")
def sign_out() -> Response:
    """Forget the key."""
    response = RedirectResponse("/sign-in", 303)
    response.delete_cookie(KEY_COOKIE, httponly=True, samesite="lax")
    return response


def _inside(target: str) -> str:
    """Return a path of this service; the start for whatever would lead out of it."""
    is_path = target.startswith("/") and not target.startswith("//") and target.isprintable() and "\\" not in target
    return target if is_path else "/"
