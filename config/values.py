"""What the values of settings may be, and how that is said."""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Mapping
from pathlib import Path
from types import NoneType
from typing import get_args
from urllib.parse import urlsplit

from pydantic import ValidationInfo
from pydantic.fields import FieldInfo

from pipeline.contract import (
    CONTROL_OR_SURROGATE,
    MAX_EVENT_TYPE_CHARACTERS,
    PAGE_PROPERTIES,
)
from pipeline.options import MOST_DECIMALS, split_name

_LOGGED = 'all, none or a JSON list of event types, such as ["page_view", "sale"]'
_NETWORKS = 'a JSON list of addresses or networks, such as ["10.0.0.7", "192.168.0.0/16"]'
_PAGE = f"a JSON list of some of {', '.join(PAGE_PROPERTIES)}"

_SERVICE_ADDRESS = re.compile(r"(tcp|udp|sctp)://[^\s/]+:\d+", re.IGNORECASE)
_SERVICE_NAME = re.compile(
    r".*_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
)
_LONGEST_SHOWN = 80
_SECRET_CHARACTERS = 16
_SCHEMA = re.compile(r"[^\W\d][\w$ -]*")
_LONGEST_SCHEMA_BYTES = 63


def is_service_variable(name: str, value: str) -> bool:
    """Whether Kubernetes sets such a variable in every container, for a service of such a name
    (documented as "Service environment variables"): `NAME_PORT=tcp://10.0.0.1:80` and its like."""
    is_address = _SERVICE_ADDRESS.fullmatch(value.strip()) is not None
    return (is_address and name.endswith("_PORT")) or _SERVICE_NAME.fullmatch(name) is not None


def decode_json(value: object, rule: str) -> object:
    """What a variable's JSON text holds. Raises ValueError that says the rule."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError as error:
        raise ValueError(f"must be {rule}; {error}") from None


def decode_list(value: object, rule: str) -> list[str]:
    """The list of texts that a variable's JSON text holds. Raises ValueError that says the rule."""
    found = decode_json(value, rule)
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise ValueError(f"must be {rule}")
    return found


def decode_logged_types(value: object) -> str | list[str]:
    """The setting `event_log`: `all`, `none` or a list of event types."""
    if isinstance(value, str) and value.strip().lower() in {"all", "none"}:
        return value.strip().lower()
    types = decode_list(value, _LOGGED)
    for name in types:
        check_event_type(name)
    return types


def decode_networks(value: object) -> list[str]:
    """The setting `trusted_proxies`: a list of addresses and networks."""
    networks = decode_list(value, _NETWORKS)
    for one in networks:
        try:
            ipaddress.ip_network(one)
        except ValueError as error:
            raise ValueError(f"must be {_NETWORKS}; {f'{error}'[:200]}") from None
    return networks


def decode_page_properties(value: object) -> list[str]:
    """The setting `page_properties`: a list of names."""
    names = decode_list(value, _PAGE)
    for name in names:
        if name not in PAGE_PROPERTIES:
            raise ValueError(f"must be {_PAGE}; {show(name)} is not among them")
    return list(dict.fromkeys(names))


def check_page_properties(names: list[str], info: ValidationInfo) -> list[str]:
    """Raise ValueError where a property needs sessions, and there are none."""
    if "entry_page" in names and info.data.get("sessions") is False:
        raise ValueError(
            "entry_page is that of a session: set ANALYTICS_SESSIONS=1 too, or leave it out"
        )
    return names


def check_schema(name: str) -> None:
    """Raise ValueError unless this can be the schema of our tables: as Postgres keeps the name,
    without quotes. What would need an escape inside a text of SQL is refused."""
    if not _SCHEMA.fullmatch(name) or len(name.encode()) > _LONGEST_SCHEMA_BYTES:
        raise ValueError(
            "must be the name of a schema without quotes, such as analytics: letters, digits, '_', "
            f"'-', '$' and spaces, a letter or '_' first, at most {_LONGEST_SCHEMA_BYTES} bytes"
        )
    if name.startswith("pg_") or name == "information_schema":
        raise ValueError("is a schema of Postgres itself; name another, such as analytics")


def show(given: str) -> str:
    """A part of a value in a complaint about it: quoted, escaped, cut when long."""
    return ascii(given) if len(given) <= _LONGEST_SHOWN else f"{given[:_LONGEST_SHOWN]!a}…"


def check_event_type(event_type: str) -> None:
    """Raise ValueError unless it can be an event type."""
    longest = MAX_EVENT_TYPE_CHARACTERS
    if not 1 <= len(event_type) <= longest or CONTROL_OR_SURROGATE.search(event_type):
        raise ValueError(
            f"{show(event_type)} cannot be an event type: 1 to {longest} characters, no control "
            "characters"
        )


def check_count_by(count_by: dict[str, list[str]]) -> dict[str, list[str]]:
    """The setting `count_by`. Raises ValueError unless this can be it."""
    for event_type, properties in count_by.items():
        check_event_type(event_type)
        if not all(all(split_name(name)) for name in properties):
            raise ValueError(f"a property of {show(event_type)} has no name")
        if len(set(properties)) < len(properties):
            raise ValueError(f"{show(event_type)} names a property twice")
    return count_by


def check_sums(sums: dict[str, dict[str, int]]) -> dict[str, dict[str, int]]:
    """The setting `sum`. Raises ValueError unless this can be it."""
    for event_type, properties in sums.items():
        check_event_type(event_type)
        if not all(properties):
            raise ValueError(f"a property of {show(event_type)} has no name")
        for name, decimals in properties.items():
            if not 0 <= decimals <= MOST_DECIMALS:
                raise ValueError(
                    f"{show(name)} of {show(event_type)} keeps {decimals} decimals; give 0 to "
                    f"{MOST_DECIMALS}"
                )
    return sums


def describe_rule(field: FieldInfo) -> str:
    """What a field's annotation and bounds ask for, in words.

    pydantic's own messages name the one bound that was missed; this names both and the default.
    """
    default = field.get_default(call_default_factory=True)
    types = [kind for kind in get_args(field.annotation) if kind is not NoneType]
    bounds = {
        name: getattr(item, name)
        for item in field.metadata
        for name in ("ge", "gt", "le", "max_length")
        if hasattr(item, name)
    }
    if isinstance(default, bool):
        return f"must be 1 or 0 (default {default:d})"
    if isinstance(default, int | float):
        kind = "a whole number" if field.annotation is int else "a number"
        return f"must be {kind} {_describe_range(bounds)} (default {default})"
    if types and all(isinstance(kind, str) for kind in types):
        return f"must be one of: {', '.join(types)} (default {default})"
    if "max_length" in bounds:
        return f"must have at most {bounds['max_length']} characters (default {default})"
    if default:
        return 'must be a JSON object of properties and decimals, such as {"sale": {"total": 2}}'
    return 'must be a JSON object of lists of names, such as {"page_view": ["path"]}'


def _describe_range(bounds: Mapping[str, float]) -> str:
    lowest = f"above {bounds['gt']}" if "gt" in bounds else f"of {bounds['ge']} or more"
    return f"{lowest}, at most {bounds['le']}" if "le" in bounds else lowest


def check_directory(value: Path) -> Path:
    """The directory, `~` replaced. Raises ValueError for what is none; one that is not there yet is
    fine."""
    try:
        directory = value.expanduser()
        is_file = directory.exists() and not directory.is_dir()
    except (OSError, RuntimeError) as error:  # a name too long, a home that is not there
        reason = getattr(error, "strerror", None) or str(error)
        raise ValueError(f"cannot be a directory ({reason}); name one") from None
    if is_file:
        raise ValueError("is a file; name a directory")
    return directory


def check_secret(value: str) -> None:
    """Raise ValueError for a secret that can be guessed."""
    if len(value) < _SECRET_CHARACTERS:
        raise ValueError(
            f"must have {_SECRET_CHARACTERS} characters or more, such as what "
            "`openssl rand -hex 32` prints; user ids could be guessed otherwise"
        )


_ADDRESS = re.compile(r"[^@\s<>]+@[^@\s<>]+")
_SCHEMES = {"alarm_webhook": ("https", "http"), "alarm_smtp_url": ("smtp", "smtps")}


def check_url(value: str, name: str) -> None:
    """Raise ValueError where the setting `name` is no URL of one of its schemes, with a host."""
    schemes = _SCHEMES[name]
    try:
        parts = urlsplit(value)
        is_url = parts.scheme in schemes and parts.hostname and (parts.port or 1)
    except ValueError:
        is_url = False
    if not is_url:
        raise ValueError(f"must be a URL such as {schemes[0]}://HOST")


def check_addresses(value: str | None) -> str | None:
    """Addresses of mail with commas between them, as they are. Raises ValueError for others."""
    if value is not None and not all(_ADDRESS.fullmatch(one.strip()) for one in value.split(",")):
        raise ValueError(
            "must be addresses of mail with commas between them, a@b.example,c@d.example"
        )
    return value
