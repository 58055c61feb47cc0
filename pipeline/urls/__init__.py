"""URLs of servers: what is accepted, how it is normalised, how it is shown without secrets.

Only the standard library is used here, because applications load this module with the producer.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import SplitResult, parse_qsl, urlsplit

REDIS_SCHEMES = ("redis", "rediss", "sentinel")
AMQP_SCHEMES = ("amqp", "amqps")
POSTGRES_SCHEMES = ("postgresql", "postgres", "postgresql+psycopg")

_LAST_PORT = 65_535
_UNREADABLE = (
    "cannot be read as a URL; the port is a number from 1 to 65535, and / # ? @ : in a "
    "password are written %2F %23 %3F %40 %3A"
)
_POSTGRES_URL = re.compile(
    r"[^:]+://([^@/?]*@)?(?P<hosts>[^@/?]*)(/(?P<path>[^?]*))?(\?(?P<query>.*))?", re.DOTALL
)
_HOST = re.compile(r"(\[[0-9a-fA-F:.%]+\]|[^:\[\]]*)(:(?P<port>[0-9]{0,5}))?")
_PAIR_BEGINS = re.compile(r"\s*[a-z_]+\s*=")
_PAIR = re.compile(
    r"\s*([a-z_]+)\s*=\s*('(?:[^'\\]|\\.)*'|(?!')(?:[^\s\\]|\\.)*)(?:\s+|$)", re.DOTALL
)
_PLACE = r"(\[[0-9a-fA-F:]+\]|([\w.-]|%2F)*)(:\d*)?"
_SHOWN_PLACE = re.compile(
    # Several only where a database follows: else they may be a password.
    rf"(\[[0-9a-fA-F:]+\]|[\w.-]*)(:\d*)?(/[\w.-]*)*|{_PLACE}(,{_PLACE})*/[\w.-]+",
    re.IGNORECASE,
)
_SHOWN_PARAMETERS = frozenset(
    ("host", "hostaddr", "port", "dbname", "user", "service", "sslmode", "target_session_attrs")
)
_HARMLESS = re.compile(r"([\w./,:-]|%2F)*", re.IGNORECASE)
_POSTGRES_DRIVER = "postgresql+psycopg"
_TLS_PARAMETERS = ("ssl_cert_reqs", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
REDIS_TLS_PARAMETERS = (
    *_TLS_PARAMETERS,
    "ssl_check_hostname",
    "ssl_ca_path",
    "ssl_password",
    "ssl_min_version",
    "ssl_ciphers",
)
_SENTINEL_PARAMETERS = ("master_name", "sentinel_username", "sentinel_password", "ssl")
_PARAMETERS = {
    "redis": (),
    "rediss": REDIS_TLS_PARAMETERS,
    "sentinel": (*_SENTINEL_PARAMETERS, *REDIS_TLS_PARAMETERS),
    "amqp": (),
    "amqps": _TLS_PARAMETERS,
}
_CERTIFICATE_RULES = ("required", "optional", "none")


def split_url(url: str, schemes: tuple[str, ...]) -> SplitResult:
    """Split a URL of one of these schemes. Raises ValueError that says what is wrong and quotes
    nothing: what urlsplit quotes in its own may be the password."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError(_UNREADABLE) from None
    if parts.scheme not in schemes or not url.startswith(f"{parts.scheme}://"):
        raise ValueError(f"must begin with {', '.join(f'{scheme}://' for scheme in schemes)}")
    if "#" in url:
        raise ValueError("'#' is not allowed; in a password write %23")
    if port == 0:
        raise ValueError("the port must be from 1 to 65535")
    return parts


def check_amqp_url(url: str) -> None:
    """Raise ValueError, which does not show the URL, unless it is one of RabbitMQ, or several of
    the nodes of one cluster joined by `;`.
    """
    addresses, _, query = url.partition("?")
    parts = [split_url(address, AMQP_SCHEMES) for address in addresses.split(";")]
    if not all(part.hostname for part in parts):
        raise ValueError("names no host; the form is amqp://USER:PASSWORD@HOST:5672/VHOST")
    if len({part.scheme for part in parts}) > 1:
        raise ValueError("addresses joined with ';' must all begin with amqp://, or with amqps://")
    read_parameters(parts[0].scheme, query)


def normalise_postgres_url(url: str) -> str:
    """The same address with the driver we use, or ValueError that does not show the URL. It is one
    that libpq understands: a URL, with several hosts or none, or pairs such as `host=… dbname=…`.
    """
    if is_pairs(url):
        pairs = _read_pairs(url)
        if pairs is None:
            raise ValueError(
                "cannot be read as keyword=value pairs; a value with a space, or none, is written "
                "between single quotes, in which \\' and \\\\ stand for ' and \\"
            )
        names = {name for name, value in pairs if value.strip("'")}
    else:
        scheme, path, query = _split_postgres_url(url)
        names = {name for name, value in parse_qsl(query) if value}
        names |= {"dbname"} if path.strip("/") else set()
        url = _POSTGRES_DRIVER + url[len(scheme) :]
    if not names & {"dbname", "service"}:
        raise ValueError("names no database; the form is postgresql://USER:PASSWORD@HOST:5432/NAME")
    return url


def is_pairs(address: str) -> bool:
    """Whether an address of Postgres is written as keyword=value pairs, and not as a URL."""
    return _PAIR_BEGINS.match(address) is not None


def _split_postgres_url(url: str) -> tuple[str, str, str]:
    """Scheme, path and query. Unlike other URLs it may name several hosts, each with a port."""
    scheme, separator, _ = url.partition("://")
    if scheme not in POSTGRES_SCHEMES or not separator or "#" in url:
        split_url(url, POSTGRES_SCHEMES)  # says what is wrong
    found = _POSTGRES_URL.fullmatch(url)
    hosts = [_HOST.fullmatch(host) for host in found["hosts"].split(",")] if found else [None]
    ports = [int(host["port"] or 5432) if host else -1 for host in hosts]
    if found is None or any(not 0 <= port <= _LAST_PORT for port in ports):
        raise ValueError(_UNREADABLE)
    if 0 in ports:
        raise ValueError("the port must be from 1 to 65535")
    return scheme, found["path"] or "", found["query"] or ""


def _read_pairs(text: str) -> list[tuple[str, str]] | None:
    """The pairs, values as they are written; None for what is no list of them."""
    pairs, at = list[tuple[str, str]](), 0
    while at < len(text):
        found = _PAIR.match(text, at)
        if found is None:
            return None
        pairs.append((found[1], found[2]))
        at = found.end()
    return pairs


def mask_url(url: str) -> str:
    """The URL, fit for a log: nothing that may be a password, also when it cannot be parsed."""
    if is_pairs(url):
        return _mask_parameters(_read_pairs(url) or [], " ")
    if url.startswith(tuple(f"{scheme}://" for scheme in POSTGRES_SCHEMES)):
        address, mark, query = url.partition("?")
        pairs = [(name, value) for name, _, value in (p.partition("=") for p in query.split("&"))]
        return _mask_one(address) + (mark and f"?{_mask_parameters(pairs, '&')}")
    return ";".join(_mask_one(address) for address in url.split(";"))


def _mask_parameters(pairs: Sequence[tuple[str, str]], separator: str) -> str:
    shown = [
        f"{name}={value}"
        for name, value in pairs
        if name in _SHOWN_PARAMETERS and _HARMLESS.fullmatch(value)
    ]
    return separator.join(shown if shown and len(shown) == len(pairs) else [*shown, "…"])


def _mask_one(url: str) -> str:
    address, question_mark, _ = url.partition("?")
    credentials, at, place = address.rpartition("@")
    scheme = re.match(r"[a-z0-9+]+://", address)
    shown_scheme = scheme[0] if scheme else ""
    if not at:
        place = address[len(shown_scheme) :]
    # What stands where the host belongs may be a password whose `@HOST` was forgotten.
    if not _SHOWN_PLACE.fullmatch(place):
        place = "…"
    shown_credentials = ""
    if at:
        user = re.fullmatch(r"([\w.-]*):.*", credentials[len(shown_scheme) :], re.DOTALL)
        shown_credentials = f"{user[1] if user else ''}:***@"
    return f"{shown_scheme}{shown_credentials}{place}{'?…' if question_mark else ''}"


def read_parameters(scheme: str, query: str) -> dict[str, str]:
    """The parameters of a URL. Raises ValueError for one that is not supported."""
    parameters = dict(parse_qsl(query, keep_blank_values=True))
    allowed = _PARAMETERS[scheme]
    for name in parameters:
        if name not in allowed:
            raise ValueError(
                f"the parameter {name!r} is not supported in a {scheme}:// URL "
                f"(supported: {', '.join(allowed) or 'none'})"
            )
    if scheme == "sentinel" and not parameters.get("master_name"):
        raise ValueError("a sentinel:// URL must end with ?master_name=NAME")
    if parameters.get("ssl_cert_reqs", "required") not in _CERTIFICATE_RULES:
        raise ValueError(f"ssl_cert_reqs must be one of: {', '.join(_CERTIFICATE_RULES)}")
    return parameters
