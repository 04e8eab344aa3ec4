"""All pages and what they are made with, put into an application."""

from fastapi import Depends, FastAPI

from service.deps import authenticated
from service.pages import assets, compare, dictionary, feature, home, playground, runs, schedules, search, session

_ROOMS = (home, dictionary, search, feature, runs, compare, schedules, playground)


def install(app: FastAPI) -> None:
    """Serve the pages. All but the one to sign in on want a key, as the API does."""
    assets.install(app)
    app.include_router(session.router, include_in_schema=False)
    for room in _ROOMS:
        app.include_router(room.router, include_in_schema=False, dependencies=[Depends(authenticated)])
