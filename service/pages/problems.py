"""Problems as pages: what is wrong, and where to go from there."""

from urllib.parse import quote

from fastapi import Request
from fastapi.responses import Response

from schema.wire import Problem
from service.pages.rendering import page

_NOT_PAGES = ("/v1/", "/static/", "/health", "/ready", "/metrics", "/openapi.json")


def wants_page(request: Request) -> bool:
    """Return whether a person sees the answer."""
    return not request.url.path.startswith(_NOT_PAGES) and "text/html" in request.headers.get("accept", "")


def page_of(request: Request, problem: Problem) -> Response:
    """Return a problem as a page; who has no key that is known is asked for one, and then goes on where they were."""
    if problem.status == 401:
        query = f"?{request.url.query}" if request.url.query else ""
        target = quote(request.url.path, safe="/") + query if request.method == "GET" else "/"
        return page(request, "sign_in.html", status=401, next=target, problem=problem.detail)
    return page(request, "problem.html", status=problem.status, problem=problem)
