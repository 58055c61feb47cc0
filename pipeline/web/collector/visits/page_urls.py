"""Hosts and campaigns in the addresses of pages, whatever these hold. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from urllib.parse import unquote_plus, urlsplit

LONGEST_VALUE = 200
"""Characters of a property: as many as a counted value has."""
CAMPAIGN = ("utm_source", "utm_medium", "utm_campaign", "utm_term", "utm_content")
_LONGEST_URL = 8_192
_LONGEST_KNOWN = 300
"""Characters of an address of which is remembered what it says."""
_MOST_PARAMETERS = 100
_SCHEMES = frozenset({"http", "https", "android-app"})
_HOST = re.compile(r"(?:[\w-]{1,63}\.)*[\w-]{1,63}|[0-9a-f:.]{2,45}")
_LONGEST_HOST = 253


def find_host(url: object) -> str:
    """The host that an address names, in small letters and without `www.`; "" for any other
    text or value."""
    if not isinstance(url, str) or "://" not in url[:20]:
        return ""
    return (_parse_host_again if len(url) <= _LONGEST_KNOWN else _parse_host)(url)


def _parse_host(url: str) -> str:
    try:
        parts = urlsplit(url[:_LONGEST_URL].strip())
        host = parts.hostname or ""
    except ValueError:
        return ""
    return check_host(host) if parts.scheme in _SCHEMES else ""


# The pages of a site, and those that link to it, come again and again.
_parse_host_again = lru_cache(maxsize=8_192)(_parse_host)


def check_host(host: object) -> str:
    """A host's name, as `find_host` gives it; "" for what is none."""
    if not isinstance(host, str):
        return ""
    name = host[: _LONGEST_HOST + 2].lower().removesuffix(".").removeprefix("www.")
    return name if len(name) <= _LONGEST_HOST and _HOST.fullmatch(name) else ""


def find_path(url: object) -> str:
    """The path of an address; "" for any other text or value."""
    if not isinstance(url, str) or "://" not in url[:20]:
        return ""
    try:
        return urlsplit(url[:_LONGEST_URL]).path or "/"
    except ValueError:
        return ""


def find_campaign(query: object) -> Mapping[str, str]:
    """The UTM parameters of an address or of a query; of one that comes twice the first counts."""
    if not isinstance(query, str) or "utm_" not in query[:_LONGEST_URL].lower():
        return {}
    return (_parse_campaign_again if len(query) <= _LONGEST_KNOWN else _parse_campaign)(query)


def _parse_campaign(query: str) -> Mapping[str, str]:
    query = query[:_LONGEST_URL].partition("#")[0]
    parts = query.rpartition("?")[2].split("&", _MOST_PARAMETERS)[:_MOST_PARAMETERS]
    found: dict[str, str] = {}
    for part in parts:
        name, _, value = part.partition("=")
        name = name.lower().removeprefix("amp;")
        if name in CAMPAIGN and name not in found and (text := clean(unquote_plus(value))):
            found[name] = text
    return found


_parse_campaign_again = lru_cache(maxsize=8_192)(_parse_campaign)


def clean(value: object) -> str:
    """What a sender says, as the value of a property: printable text, not too long; "" for what is
    neither text nor a whole number."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value) if abs(value) < 10**15 else ""
    if not isinstance(value, str):
        return ""
    text = value[: 2 * LONGEST_VALUE]
    if not text.isprintable():
        text = "".join(filter(str.isprintable, text))
    return text.strip()[:LONGEST_VALUE]
