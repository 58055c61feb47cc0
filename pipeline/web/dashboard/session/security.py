"""The headers of every page, and which requests come from our own pages.

The policy has no `unsafe-`: a page runs nothing but our files, and no markup that an event smuggled
in could run a script, load a picture, or send a form elsewhere.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.requests import Request

from pipeline.web.errors import RequestRefused
from pipeline.web.headers import NO_SNIFFING

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
    )
)
PAGE_HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
    # A page asked for by a script is a part of one.
    "Vary": "Cookie",
    **NO_SNIFFING,
}
SECURE_PREFIX = "__Host-"
"""Of the names of cookies that browsers send over TLS only."""
_PORTS = {"http": 80, "https": 443}
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def is_plain_loopback(request: Request) -> bool:
    """Whether the browser is on this machine and came without TLS: then alone a cookie may be kept
    without it."""
    return request.url.scheme == "http" and request.url.hostname in _LOOPBACK


def find_port(request: Request) -> int | None:
    """The port in the address that the browser has; None where it has none."""
    try:
        return urlsplit(f"//{request.headers.get('host', '')}").port
    except ValueError:
        return None


def check_same_origin(request: Request) -> None:
    """Raise `RequestRefused` (403) unless a page of ours sent this request, as its browser says.

    Browsers send `Origin` with every POST. A proxy in front has to pass the `Host` on; it need not
    say that the browser came over TLS, since a cookie with `__Host-` does.
    """
    origin, site = request.headers.get("origin", ""), request.headers.get("sec-fetch-site")
    scheme = origin.partition("://")[0]
    is_secure = request.url.scheme == "https" or any(
        name.startswith(SECURE_PREFIX) for name in request.cookies
    )
    is_ours = scheme == "https" or (scheme == "http" and not is_secure)
    place, own = _find_place(origin, scheme), request.headers.get("host", "")
    is_ours = is_ours and place is not None and place == _find_place(f"{scheme}://{own}", scheme)
    if not is_ours or site not in (None, "same-origin"):
        raise RequestRefused(
            403,
            "cross_site",
            "the dashboard takes forms from its own pages only: open it at this address and try "
            "again; a proxy in front has to pass the Host header on",
        )


def _find_place(origin: str, scheme: str) -> tuple[str, int] | None:
    """Host and port of an origin; None where it is none, as the `null` of a sandboxed frame."""
    try:
        split = urlsplit(origin)
        port = split.port or _PORTS[scheme]
    except (KeyError, ValueError):
        return None
    return (split.hostname, port) if split.hostname else None
