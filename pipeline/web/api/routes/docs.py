"""`/docs`: Swagger UI with nothing loaded from another host.

FastAPI's own page takes scripts from a content delivery network, which then sees who reads it, and
does not work where there is none. Here the files come from a package. The script that starts
the page is a file of its own: FastAPI writes it into the page, which the policy below forbids.
"""

from __future__ import annotations

from importlib.resources import files

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

_ASSETS = {"swagger-ui-bundle.js": "text/javascript", "swagger-ui.css": "text/css"}
_START = "docs.js"
_CACHE_A_DAY = {"Cache-Control": "public, max-age=86400"}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; connect-src 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Analytics: stats API</title>
<link rel="stylesheet" href="docs/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/docs.js"></script>
</body>
</html>
"""
_SCRIPT = """SwaggerUIBundle({
  url: "%s",
  dom_id: "#swagger-ui",
  deepLinking: true,
  persistAuthorization: false,
});
"""


def create_docs_routes(openapi_url: str) -> list[Route]:
    """The page and its files; they need no token, and show nothing but what the API offers."""

    async def page(_: Request) -> Response:
        return HTMLResponse(_PAGE, headers={"Content-Security-Policy": _POLICY})

    async def asset(request: Request) -> Response:
        name = request.path_params["name"]
        if name == _START:
            return Response(_SCRIPT % openapi_url.lstrip("/"), media_type="text/javascript")
        if name not in _ASSETS:
            return Response(status_code=404)
        body = files("fastapi_offline").joinpath("static", name).read_bytes()
        return Response(body, headers=_CACHE_A_DAY, media_type=_ASSETS[name])

    return [Route("/docs", page), Route("/docs/{name}", asset)]
