"""The shape of the tree: what the design and the house style promise about its files."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from statistics import median

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import pipeline

ROOT = Path(__file__).parents[3]
PACKAGES = ("config", "pipeline", "tasks")
LONGEST_MODULE_LINES = 400
MEDIAN_MODULE_LINES = 140
MOST_FILES = 14
TESTS_OF_NO_ROOM = {"project"}
"""Of the tree itself."""

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCK = (ROOT / "requirements.lock").read_text()


def files(*folders: str) -> Iterator[Path]:
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                yield path


def ignored() -> set[str]:
    """Names that git ignores, and its own."""
    lines = (ROOT / ".gitignore").read_text().splitlines()
    return {line.strip("/") for line in lines if line and not line.startswith("#")} | {".git"}


def folders() -> Iterator[tuple[Path, list[str]]]:
    """Every folder of the tree with the files that are directly in it."""
    patterns = ignored()

    def kept(names: list[str]) -> list[str]:
        return [name for name in names if not any(fnmatch(name, one) for one in patterns)]

    for folder, inside, names in os.walk(ROOT):
        inside[:] = kept(inside)
        yield Path(folder), kept(names)


def rooms() -> set[str]:
    """The rooms of the packages, by name; a module beside them is a small room."""
    found = {"config"}
    for package in ("pipeline", "tasks"):
        for path in (ROOT / package).iterdir():
            if path.name not in {"__init__.py", "__pycache__", "py.typed"}:
                found.add(f"{package}.{path.stem}")
    return found


# Rooms


def test_a_folder_has_at_most_14_files() -> None:
    full = {f"{folder.relative_to(ROOT)}": len(names) for folder, names in folders()}

    assert {folder: count for folder, count in full.items() if count > MOST_FILES} == {}


def test_the_plan_of_the_house_names_every_room() -> None:
    contracts = PROJECT["tool"]["importlinter"]["contracts"]
    (plan,) = [contract for contract in contracts if contract["type"] == "layers"]
    named = {name for floor in plan["layers"] for name in re.findall(r"[\w.]+", floor)}

    assert named == rooms()


def test_a_script_lies_in_the_room_that_calls_it() -> None:
    for script in files(*PACKAGES):
        if script.suffix == ".lua":
            name = ".".join(script.relative_to(ROOT).with_suffix("").parts)
            callers = [path for path in script.parent.glob("*.py") if name in path.read_text()]
            assert callers, f"no module beside it names {name}"


@pytest.mark.parametrize("kind", ["unit", "integration"])
def test_the_tests_mirror_the_rooms(kind: str) -> None:
    names = {room.rpartition(".")[2] for room in rooms()} | TESTS_OF_NO_ROOM
    top = ROOT / "tests" / kind
    found = {path.relative_to(top).parts[0] for path in top.rglob("test_*.py")}

    assert {name.removeprefix("test_").removesuffix(".py") for name in found} <= names


# Modules


@pytest.mark.parametrize(
    "path",
    [path for path in files(*PACKAGES, "benchmarks", "examples", "tests") if path.suffix == ".py"],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_a_module_has_at_most_400_lines(path: Path) -> None:
    lines = path.read_text().count("\n")
    assert lines <= LONGEST_MODULE_LINES


def test_half_of_the_modules_have_at_most_140_lines() -> None:
    lines = [
        path.read_text().count("\n")
        for path in files(*PACKAGES)
        if path.suffix == ".py" and path.name != "__init__.py"
    ]
    assert median(lines) <= MEDIAN_MODULE_LINES


def test_every_folder_of_a_package_is_a_package_and_so_is_installed() -> None:
    for path in files(*PACKAGES):
        if path.suffix == ".py":
            assert (path.parent / "__init__.py").exists(), path


def test_every_file_that_is_no_module_is_installed_with_its_package() -> None:
    patterns = PROJECT["tool"]["setuptools"]["package-data"]["*"]
    for path in files(*PACKAGES):
        if path.suffix not in {".py", ".pyc"}:
            assert any(fnmatch(path.name, pattern) for pattern in patterns), path


def test_an_application_with_its_own_tasks_and_config_loads_none_of_ours(tmp_path: Path) -> None:
    for name in ("tasks", "config"):
        (tmp_path / f"{name}.py").write_text("")
    program = (
        "import sys; from pipeline import track_event; import tasks, config; "
        "print(tasks.__file__, config.__file__, *sorted(sys.modules), sep='\\n')"
    )
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("ANALYTICS_")
    }
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        env={**environment, "PYTHONPATH": path},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    tasks, config, *loaded = ran.stdout.splitlines()
    assert Path(tasks).parent == Path(config).parent == tmp_path
    too_much = {"sqlalchemy", "psycopg", "alembic", "pydantic", "typer", "flower", "fastapi"}
    assert not too_much & set(loaded)


# The lock


def locked() -> dict[str, str]:
    """Name -> the lines of its entry."""
    blocks = re.split(r"^(?=[\w.-]+==)", LOCK, flags=re.MULTILINE)[1:]
    return {canonicalize_name(block.partition("==")[0]): block for block in blocks}


def test_every_locked_package_has_hashes() -> None:
    for name, block in locked().items():
        assert "--hash=sha256:" in block, name


def test_the_lock_names_no_index_and_no_path() -> None:
    assert not re.search(r"://|--index|--find-links|--extra|--trusted| @ |file:|^-", LOCK)


def test_everything_declared_is_locked_at_a_version_that_is_allowed() -> None:
    declared = [
        *PROJECT["project"]["dependencies"],
        *(
            requirement
            for extra in PROJECT["project"]["optional-dependencies"].values()
            for requirement in extra
        ),
        *PROJECT["build-system"]["requires"],
    ]
    entries = locked()
    for text in declared:
        requirement = Requirement(text)
        if requirement.name == PROJECT["project"]["name"]:  # another extra
            continue
        version = re.match(r"[\w.-]+==([^\s;]+)", entries[canonicalize_name(requirement.name)])
        assert version is not None
        assert requirement.specifier.contains(version[1]), text


# The commands


def test_make_help_lists_every_target() -> None:
    makefile = (ROOT / "Makefile").read_text()
    phony = re.search(r"^\.PHONY: (.+)$", makefile, re.MULTILINE)
    assert phony is not None
    listed = re.findall(r"^([a-z-]+):.*## \S", makefile, re.MULTILINE)
    assert sorted(listed) == sorted(phony[1].split())


@pytest.mark.parametrize("script", [".ci/run", ".ci/install"])
def test_a_script_can_be_run(script: str) -> None:
    assert os.access(ROOT / script, os.X_OK)


@pytest.mark.parametrize(
    "path",
    [
        *[f"pipeline:{name}" for name in pipeline.__all__],
        "pipeline.stats:Stats",
        "pipeline.web.main:app",
        "pipeline.cli:main",
        "tasks:track_event",
        "tasks:flush_counters",
        "tasks.app:app",
    ],
)
def test_a_documented_import_path_leads_to_what_it_names(path: str) -> None:
    module, _, name = path.partition(":")
    assert hasattr(importlib.import_module(module), name)


PROGRAM = re.compile(
    r"""(?:python -m |"-m",\s*"|--factory",\s*")((?:benchmarks|pipeline|tasks|tests)[.\w]*)"""
)


@pytest.mark.parametrize(
    "path",
    [
        path
        for path in (
            *files("benchmarks", *PACKAGES, "tests"),
            ROOT / "Makefile",
            ROOT / "README.md",
        )
        if path.suffix in {".py", ".md", ""} and PROGRAM.search(path.read_text(encoding="utf-8"))
    ],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_a_program_that_is_started_by_its_name_is_there(path: Path) -> None:
    for name in PROGRAM.findall(path.read_text(encoding="utf-8")):
        assert importlib.util.find_spec(name) is not None, name
