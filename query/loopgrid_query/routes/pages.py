"""What a browser finds: ``/`` and ``/docs``, whose files come from this server and no other."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from fastapi import APIRouter, Request
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse, RedirectResponse
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

_FILES: Final = "/docs/files"

router: Final = APIRouter(include_in_schema=False)
files: Final = Mount(_FILES, StaticFiles(packages=[("fastapi_offline", "static")]))


@router.get("/")
async def start() -> RedirectResponse:
    """Whoever opens the address in a browser wants to know what there is."""
    return RedirectResponse("/docs", HTTPStatus.TEMPORARY_REDIRECT)


@router.get("/docs")
async def docs(request: Request) -> HTMLResponse:
    """The API's description as a page on which it can be tried."""
    return get_swagger_ui_html(
        title=f"{request.app.title} API",
        openapi_url=request.app.openapi_url,
        swagger_js_url=f"{_FILES}/swagger-ui-bundle.js",
        swagger_css_url=f"{_FILES}/swagger-ui.css",
        swagger_favicon_url=f"{_FILES}/favicon.png",
    )
