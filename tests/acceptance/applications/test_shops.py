"""The shops in `examples/`: started, used and counted as their tutorials say."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import redis

from pipeline.access.key_store import AccessKeyStore
from pipeline.services import Services
from pipeline.web.dependencies import WebDependencies, WebOptions
from tests.helpers.api_server import NO_TLS, served
from tests.helpers.applications.serving import port_for, running
from tests.helpers.applications.tutorials import (
    EXAMPLES,
    ROOT,
    read_commands,
    read_console,
    read_shop_settings,
)
from tests.helpers.applications.visitor import Visitor
from tests.helpers.support import Workers, environment_without_settings, eventually
from tests.helpers.web_process import lately, wait_until_consumed

pytestmark = pytest.mark.timeout(60)

_TUTORIALS = ROOT / "docs" / "tutorials"
_BIN = Path(sys.executable).parent


@dataclass
class Counts:
    """What is counted, by each way to read it."""

    services: Services
    api: httpx.Client
    analytics: Callable[..., tuple[int, str, str]]

    def check(self, **expected: int) -> None:
        """Check that exactly so many events of each type are counted, by `Stats` and the API."""
        with suppress(AssertionError):  # which would not say what is counted instead
            eventually(lambda: self._read_stats(expected) == expected, 20)
        wait_until_consumed(self.services)
        assert self._read_stats(expected) == expected
        assert self._read_api(expected) == expected

    def check_console(self, page: Path) -> None:
        """Check that the commands of a tutorial print what it shows."""
        first, last = lately()
        shown = list(read_console(page))
        assert shown
        for command, output in shown:
            answer = self.analytics(*command, "--from", f"{first}", "--to", f"{last}")
            assert answer == (0, output, ""), command

    def _read_stats(self, event_types: dict[str, int]) -> dict[str, int]:
        return {one: self.services.stats.count(one, *lately()) for one in event_types}

    def _read_api(self, event_types: dict[str, int]) -> dict[str, int]:
        first, last = (f"{day}" for day in lately())

        def read(event_type: str) -> int:
            asked = {"event_type": event_type, "from": first, "to": last}
            return int(self.api.get("/api/stats/count", params=asked).json()["count"])

        return {one: read(one) for one in event_types}


@pytest.fixture
def services(make_services: Callable[..., Services], workers: Workers) -> Services:
    """Services with the settings of the tutorials, and a worker that counts."""
    settings = read_shop_settings()
    workers.start("events", **settings)
    return make_services(**{name.lower(): json.loads(text) for name, text in settings.items()})


@pytest.fixture
def counts(
    services: Services, client: redis.Redis, analytics: Callable[..., tuple[int, str, str]]
) -> Iterator[Counts]:
    access = AccessKeyStore(client, services.keys)
    token = access.create("read", "tests")[1]
    head = {"Authorization": f"Bearer {token}"}
    with (
        served(WebDependencies(services, client, access, WebOptions())) as origin,
        httpx.Client(base_url=origin, headers=head, verify=NO_TLS) as api,
    ):
        yield Counts(services, api, analytics)


@pytest.fixture
def visit() -> Iterator[Callable[..., Visitor]]:
    """Makes visitors of a shop."""
    visitors: list[Visitor] = []

    def begin(origin: str, cookies: dict[str, str] | None = None) -> Visitor:
        visitors.append(Visitor(origin, cookies))
        return visitors[-1]

    yield begin
    for visitor in visitors:
        visitor.close()


@contextmanager
def open_shop(start: str, redis_url: str, log: Path) -> Iterator[str]:
    """A shop that is started by this command, on another port; yields its origin."""
    port, command = port_for(start.replace("8000", "PORT"))
    origin = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        try:
            # Not a page, which would be counted.
            return httpx.get(f"{origin}/favicon.ico", verify=NO_TLS).status_code == 404
        except httpx.TransportError:
            return False

    with running(command, log, ANALYTICS_REDIS_URL=redis_url) as server:
        eventually(lambda: answers() or not server.runs(), 30, "the shop does not answer")
        assert server.runs(), server.output
        yield origin


def find_command(page: Path, beginning: str) -> str:
    """The command of a tutorial that begins so, without the directory of its program."""
    commands = read_commands(page)
    [found] = re.findall(rf"^\.venv/bin/({beginning}.*)$", commands, re.MULTILINE)
    return str(found)


def test_the_shop_with_flask(
    counts: Counts, visit: Callable[..., Visitor], redis_url: str, tmp_path: Path
) -> None:
    page = _TUTORIALS / "flask-shop.md"
    with open_shop(find_command(page, "flask"), redis_url, tmp_path / "log") as origin:
        visitor = visit(origin)
        visitor.click("mug")
        visitor.press("Add to cart")
        visitor.click("Products")
        visitor.click("poster")
        visitor.press("Add to cart")
        cart, cookies = visitor.answer, visitor.cookies
        visitor.press("Buy")
        assert visitor.path == "/thanks"
        counts.check(page_view=7, add_to_cart=2, sale=1)
        counts.check_console(page)

        impatient = visit(origin, cookies)
        impatient.answer = cart
        impatient.press("Buy")
        assert impatient.path == "/thanks"
        counts.check(page_view=9, add_to_cart=2, sale=1)


def test_the_shop_with_django(
    counts: Counts, visit: Callable[..., Visitor], redis_url: str, tmp_path: Path
) -> None:
    page = _TUTORIALS / "django-shop.md"
    copy = shutil.copytree(
        EXAMPLES / "django_shop", tmp_path / "shop"
    )  # which has its own database
    migrate, start = (
        find_command(page, f"python .*manage.py {name}").replace("examples/django_shop", f"{copy}")
        for name in ("migrate", "runserver")
    )
    variables = environment_without_settings() | {"PYTHONPATH": f"{ROOT}"}
    subprocess.run(f"{_BIN}/{migrate}".split(), env=variables, check=True, capture_output=True)
    with open_shop(f"{start} --noreload", redis_url, tmp_path / "log") as origin:
        first, second = visit(origin), visit(origin)
        for visitor in (first, second):
            visitor.click("lamp")
            visitor.press("Add to cart")
        cart, cookies = first.answer, first.cookies
        first.press("Buy")
        assert first.path == "/thanks"
        second.press("Buy")
        assert "Not bought: lamp is sold out." in second.answer.text
        counts.check(page_view=7, add_to_cart=2, sale=1)
        counts.check_console(page)

        impatient = visit(origin, cookies)
        impatient.answer = cart
        impatient.press("Buy")
        assert impatient.path == "/thanks"
        counts.check(page_view=9, add_to_cart=2, sale=1)


def test_the_shop_with_fastapi(counts: Counts, redis_url: str, tmp_path: Path) -> None:
    page = _TUTORIALS / "fastapi-shop.md"
    commands = read_commands(page)
    with open_shop(find_command(page, "uvicorn"), redis_url, tmp_path / "log") as origin:
        lines = commands[commands.index("curl") :]
        for shown, here in (
            ("http://127.0.0.1:8000", origin),
            ("/tmp/jar", f"{tmp_path}/jar"),
            (".venv/bin", f"{_BIN}"),
        ):
            lines = lines.replace(shown, here)
        ran = subprocess.run(["sh", "-ec", lines], capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stderr
        assert ran.stdout.count('"total":"21.50"') == 4  # two carts, and one order twice
        counts.check(page_view=3, add_to_cart=2, sale=1)
        counts.check_console(page)
