"""Which extra brings a module: what is said where it is not installed."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import packages_distributions

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from pipeline.errors import InvalidConfiguration
from pipeline.system import extras
from tests.helpers.support import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
SENDERS = {"kombu", *(Requirement(text).name for text in PROJECT["dependencies"])}


@pytest.mark.parametrize("extra", ["server", "web", "embedded", "parquet"])
def test_the_extra_of_every_package_is_known(extra: str) -> None:
    modules: dict[str, list[str]] = {}
    for module, distributions in packages_distributions().items():
        for name in distributions:
            modules.setdefault(canonicalize_name(name), []).append(module)
    for text in PROJECT["optional-dependencies"][extra]:
        name = Requirement(text).name
        if name in SENDERS or name == PROJECT["name"]:
            continue
        found = {extras.find_extra(module) for module in modules[canonicalize_name(name)]}
        assert extra in found, f"{name}: {modules[name]}"


def test_a_missing_module_is_said_in_a_line_with_the_extra_that_brings_it() -> None:
    error = ModuleNotFoundError("No module named 'pyarrow.parquet'", name="pyarrow.parquet")
    line = "pyarrow.parquet is not installed: pip install 'analytics-pipeline[parquet]'"
    assert extras.explain_missing(error) == line
    assert extras.explain_missing(ModuleNotFoundError("x", name="shop")) is None
    assert extras.explain_missing(ValueError("x")) is None


def test_a_python_in_which_only_applications_run_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    extras.check_server()
    monkeypatch.setattr("sys.version_info", (3, 10, 13))
    with pytest.raises(
        InvalidConfiguration, match=re.escape("need Python 3.11 or later, and this is 3.10.13")
    ):
        extras.check_server()
