"""Pseudonyms: what is counted and kept in place of a user id, and cannot be read back.

They are made as early as the secret is known: by the collector and the command line before they
send, else by the worker before it counts. A worker knows one by its form, so none is made twice.
"""

from __future__ import annotations

import hmac
import re
from functools import lru_cache
from typing import Any

from pipeline.event.names import clean_name
from pipeline.event.rules import check_user_id

_PSEUDONYM = re.compile("[0-9a-f]{64}")


@lru_cache(maxsize=65_536)
def pseudonym(secret: str, user_id: str) -> str:
    """The HMAC-SHA256 of the id in hexadecimal; the id itself when `secret` is empty.

    The same secret and id give the same pseudonym always, so a user's events still count as one
    user's. With another secret every user is a new one.
    """
    if not secret:
        return user_id
    return hmac.digest(secret.encode(), user_id.encode(errors="surrogatepass"), "sha256").hex()


def is_pseudonym(user_id: str) -> bool:
    """Whether this has the form of a pseudonym: 64 lowercase hexadecimal digits."""
    return _PSEUDONYM.fullmatch(user_id) is not None


def complete_pseudonym(secret: str, user_id: str, *, is_plain: bool = False) -> str:
    """What is stored for a user id that may be a pseudonym already. A repeat changes nothing.

    `is_plain` says that it is the application's own id, whatever it looks like. Without a secret
    the id is stored as it is.
    """
    if not is_plain and is_pseudonym(user_id):
        return user_id
    return pseudonym(secret, user_id)


def list_forms(secret: str, user_id: str) -> tuple[str, ...]:
    """The forms under which a user may be stored: the id as given and as it is cleaned, and the
    pseudonym where there is a secret. What was stored before the secret was set has the first."""
    clean = clean_name(user_id) or user_id
    forms = dict.fromkeys((user_id, clean, pseudonym(secret, clean)))
    return tuple(form for form in forms if "\x00" not in form)


def pseudonymise_fields(secret: str, fields: dict[str, Any]) -> dict[str, Any]:
    """The fields of an event with a pseudonym in place of its user id. Raises `InvalidEvent` for an
    id that breaks a rule: its pseudonym would hide that."""
    user_id = fields.get("user_id")
    if not secret or user_id is None:
        return fields
    return {**fields, "user_id": complete_pseudonym(secret, check_user_id(user_id))}
