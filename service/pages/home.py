"""The first page."""

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from service.deps import Tenant
from service.pages.rendering import page

router = APIRouter()


@router.get("/")
def home(request: Request, tenant_id: Tenant) -> HTMLResponse:
    """Show what there is."""
    return page(request, "home.html")
