"""Directories and owners for the tests of private servers."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.embedded.support import (
    Flavour,
    Owner,
    eventually,
    installed_postgres,
    installed_redis,
    processes_naming,
)


@pytest.fixture(params=["packages", "installed"])
def flavour(request: pytest.FixtureRequest) -> Flavour:
    if request.param == "packages":
        return Flavour(None, None)
    return Flavour(installed_redis(), installed_postgres())


@pytest.fixture
def data_dir(tmp_path: Path) -> Iterator[Path]:
    """A directory to start in; the test fails when it leaves a process behind."""
    directory = tmp_path / ".analytics"
    yield directory
    if sys.platform == "linux":
        eventually(lambda: not processes_naming(directory))


@pytest.fixture
def owner() -> Iterator[Callable[..., Owner]]:
    """Makes `Owner`s that end with the test."""
    owners: list[Owner] = []

    def make(data_dir: Path, **options: Any) -> Owner:
        owners.append(Owner(data_dir, **options))
        return owners[-1]

    yield make
    for one in owners:
        one.stop()
