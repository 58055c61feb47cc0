"""Flower's options, made safe before it listens."""

from __future__ import annotations

import ipaddress
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flower.utils import strtobool

from pipeline.access.flower_login import load_flower_login
from pipeline.errors import InvalidConfiguration

LOOPBACK = "127.0.0.1"

logger = logging.getLogger(__name__)


def secure_options(options: Any, data_dir: Callable[[], Path]) -> None:
    """Complete Flower's options: loopback when no address is given, a login in any case.

    Raises `InvalidConfiguration` for a login without a name or a password, and for an address that
    others can reach without a login of the operator's choice.
    """
    for login in options.basic_auth or ():
        name, _, password = login.partition(":")
        if not name or not password:
            raise InvalidConfiguration(
                "FLOWER_BASIC_AUTH (--basic-auth) has a login without a name or a password: give "
                "NAME:PASSWORD, several of them joined by commas; a comma is in no password"
            )
        if not login.isascii():
            raise InvalidConfiguration(
                "FLOWER_BASIC_AUTH (--basic-auth) has a character that is not ASCII, which Flower "
                "cannot compare: take another name or password"
            )
    options.address = options.address or LOOPBACK
    if not options.basic_auth and not options.auth:
        if not options.unix_socket and not _is_loopback(options.address):
            raise InvalidConfiguration(
                f"Flower without a login listens on loopback only, not on {options.address!r}: set "
                "FLOWER_BASIC_AUTH=NAME:PASSWORD, or leave the address out"
            )
        login = load_flower_login(data_dir())
        options.basic_auth = [f"{login.user}:{login.password}"]
        logger.warning("Flower's login: user %s, password in %s", login.user, login.path)
    if _is_set("FLOWER_UNAUTHENTICATED_API"):
        logger.warning(
            "FLOWER_UNAUTHENTICATED_API is ignored: every page and the API ask for the login"
        )
    if any(argument.lstrip("-").startswith(("basic_auth", "basic-auth")) for argument in sys.argv):
        logger.warning(
            "Flower's password stands in the command line, which every user of this machine can "
            "read: give it by FLOWER_BASIC_AUTH"
        )


def _is_loopback(address: str) -> bool:
    if address.lower() == "localhost":
        return True
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    mapped = getattr(found, "ipv4_mapped", None)
    return found.is_loopback or bool(mapped and mapped.is_loopback)


def _is_set(variable: str) -> bool:
    try:
        return bool(strtobool(os.environ.get(variable) or "false"))
    except ValueError:
        return True
