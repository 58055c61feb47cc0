"""Flower with a lock on every door: on loopback unless told otherwise, and never without a login.

Flower's own defaults are every address and no password, and its `/metrics` asks for no login even
where one is set. `install` puts these rules into `celery -A tasks flower` and `analytics flower`.
"""

from __future__ import annotations

import ipaddress
import logging
import os
import sys
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import flower.command
from flower.app import Flower
from flower.views.auth import LoginHandler
from flower.views.monitor import Healthcheck
from tornado.web import RequestHandler, StaticFileHandler, authenticated

from config.values import is_service_variable
from pipeline.access.flower_login import load_flower_login
from pipeline.errors import InvalidConfiguration, PipelineError

LOOPBACK = "127.0.0.1"
# What a login needs itself, and a health check that answers "OK" and knows nothing else.
_OPEN = (LoginHandler, Healthcheck, StaticFileHandler)

logger = logging.getLogger(__name__)


class GuardedFlower(Flower):
    """Flower that asks for the login on every route, also on those that it forgets itself."""

    def get_handler_delegate(
        self, request: Any, target_class: Any, *args: Any, **kwargs: Any
    ) -> Any:
        """What answers a request: the handler of its route, behind the login."""
        if not issubclass(target_class, _OPEN):
            target_class = _guard(target_class)
        return super().get_handler_delegate(request, target_class, *args, **kwargs)


def install(data_dir: Callable[[], Path]) -> None:
    """Make `flower.command` start a `GuardedFlower`; a login that is not given is kept in
    `data_dir`."""
    # Kubernetes sets FLOWER_PORT=tcp://… where a service is called flower, and Flower takes it.
    for name in [name for name in os.environ if name.startswith("FLOWER_")]:
        if is_service_variable(name, os.environ[name]):
            del os.environ[name]
    flower.command.Flower = partial(_make_flower, data_dir)


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
    if os.environ.get("FLOWER_UNAUTHENTICATED_API", "").lower() not in ("", "0", "false", "no"):
        logger.warning(
            "FLOWER_UNAUTHENTICATED_API is ignored: every page and the API ask for the login"
        )
    if any(argument.lstrip("-").startswith(("basic_auth", "basic-auth")) for argument in sys.argv):
        logger.warning(
            "Flower's password stands in the command line, which every user of this machine can "
            "read: give it by FLOWER_BASIC_AUTH"
        )


def _make_flower(data_dir: Callable[[], Path], **arguments: Any) -> GuardedFlower:
    """In place of `Flower(...)` in Flower's own command, when all options are read."""
    try:
        secure_options(arguments["options"], data_dir)
    except PipelineError as error:
        raise SystemExit(f"analytics: {error}") from error
    os.umask(0o077)  # its file of tasks, which `--persistent` makes, is of this user only
    return GuardedFlower(**arguments)


@cache
def _guard(handler: type[RequestHandler]) -> type[RequestHandler]:
    """The same handler, which answers nothing before the login is checked."""

    class Guarded(handler):  # type: ignore[misc, valid-type]
        def prepare(self) -> Any:
            _require_login(self)
            return super().prepare() if self.current_user else None

    Guarded.__name__ = handler.__name__
    return Guarded


@authenticated
def _require_login(handler: RequestHandler) -> None:
    """Redirects to the login page, or raises `HTTPError`, when there is no user."""


def _is_loopback(address: str) -> bool:
    if address.lower() == "localhost":
        return True
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    mapped = getattr(found, "ipv4_mapped", None)
    return found.is_loopback or bool(mapped and mapped.is_loopback)
