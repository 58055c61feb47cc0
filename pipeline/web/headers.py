"""HTTP headers that several routes read or send. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

NO_STORE = {"Cache-Control": "no-store"}
NO_SNIFFING = {"X-Content-Type-Options": "nosniff"}
"""Browsers take a body for what its Content-Type says and for nothing else."""


def encode_headers(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    """Headers as ASGI sends them."""
    return [(name.lower().encode(), value.encode()) for name, value in headers.items()]


def make_etag(body: bytes) -> str:
    """A strong ETag: bodies that differ in a byte, and so encodings of one body, differ in it."""
    return f'"{hashlib.blake2b(body, digest_size=16).hexdigest()}"'


def matches_etag(etag: str, if_none_match: str) -> bool:
    """Whether an If-None-Match, "" for none, names the ETag: by the weak comparison that RFC 9110
    asks for here."""
    known = {part.strip().removeprefix("W/") for part in if_none_match.split(",")}
    return etag in known or "*" in known


def parse_weights(accept: str) -> dict[str, float]:
    """Names and weights of an Accept or Accept-Encoding header; a weight that is no number is 0."""
    return dict(_parse_weight(part) for part in accept.lower().split(",")) if accept else {}


def accepts_gzip(accept_encoding: str) -> bool:
    """Whether an Accept-Encoding header allows gzip."""
    weights = parse_weights(accept_encoding)
    return weights.get("gzip", weights.get("*", 0.0)) > 0


def _parse_weight(part: str) -> tuple[str, float]:
    name, *parameters = part.split(";")
    weight = 1.0
    for parameter in parameters:
        key, _, value = parameter.partition("=")
        if key.strip() == "q":
            try:
                weight = float(value)
            except ValueError:
                weight = 0.0
    return name.strip(), weight
