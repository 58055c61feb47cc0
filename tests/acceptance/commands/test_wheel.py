"""The wheel, installed beside those of applications: no file of one is a file of another."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
import redis

from tests.helpers.redis_nodes import free_port
from tests.helpers.support import (
    ROOT,
    Worker,
    Workers,
    environment_without_settings,
    eventually,
    start_group,
)

THEIRS = {
    "shop": {"config/__init__.py": "NAME = 'shop'", "tasks/__init__.py": "NAME = 'shop'"},
    "django-pipeline": {"pipeline/__init__.py": "__version__ = '4'", "pipeline/conf.py": ""},
}


def build(source: Path, wheels: Path) -> Path:
    """Build the wheel of a directory as `pip install .` does, without a network."""
    options = ("--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(wheels))
    python("-m", "pip", "wheel", "-q", *options, str(source))
    (wheel,) = wheels.glob("*.whl")
    return wheel


def python(*arguments: str, executable: str = sys.executable) -> str:
    done = subprocess.run(
        [executable, *arguments],
        cwd="/",
        env=environment_without_settings(),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Our wheel, built from a copy: building leaves files behind."""
    directory = tmp_path_factory.mktemp("ours")
    for name in ("config", "pipeline", "tasks"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, directory / "source" / name, ignore=ignored)
    for name in ("pyproject.toml", "setup.py", "README.md"):
        shutil.copy(ROOT / name, directory / "source" / name)
    return build(directory / "source", directory)


class Environment:
    """A virtual environment with what this one has, but for this project."""

    def __init__(self, directory: Path) -> None:
        python("-m", "venv", "--without-pip", str(directory))
        self.directory = directory
        self.python = str(directory / "bin" / "python")
        (self.site,) = directory.glob("lib/*/site-packages")
        (self.site / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")

    def install(self, wheel: Path) -> None:
        options = ("--no-deps", "--no-index", "--force-reinstall", "-q")
        python("-m", "pip", "--python", self.python, "install", *options, str(wheel))

    def install_theirs(self, name: str) -> None:
        source = self.directory / name
        for path, text in THEIRS[name].items():
            (source / path).parent.mkdir(parents=True, exist_ok=True)
            (source / path).write_text(text + "\n")
        packages = ", ".join(repr(path.split("/")[0]) for path in THEIRS[name])
        (source / "setup.py").write_text(
            f"from setuptools import setup\nsetup(name={name!r}, packages=[{packages}])\n"
        )
        self.install(build(source, self.directory / f"wheel-of-{name}"))

    def start(self, name: str, workers: Workers, *command: str) -> Worker:
        log = self.directory / f"{name}.log"
        with log.open("wb") as output:
            arguments = [str(self.directory / "bin" / command[0]), *command[1:]]
            process = start_group(arguments, output, workers.environment, self.directory)
        worker = Worker(name, process, log)
        workers.started.append(worker)
        return worker

    def files_of(self, name: str) -> set[str]:
        (record,) = self.site.glob(f"{name}-*.dist-info/RECORD")
        return {line.partition(",")[0] for line in record.read_text().splitlines()}


@pytest.fixture
def environment(tmp_path: Path, wheel: Path) -> Environment:
    made = Environment(tmp_path / "environment")
    made.install(wheel)
    return made


def test_the_wheel_works_beside_an_application_with_config_and_tasks(
    environment: Environment, workers: Workers, client: redis.Redis
) -> None:
    names = "import config, tasks, tasks.jobs; print(config.__file__, tasks.__file__)"
    assert python("-c", names, executable=environment.python).count("/pipeline/_rooms/") == 2
    environment.install_theirs("shop")
    assert not environment.files_of("shop") & environment.files_of("analytics_pipeline")
    theirs = "import config, tasks; print(config.NAME, tasks.NAME)"
    assert python("-c", theirs, executable=environment.python) == "shop shop\n"

    (environment.directory / "test_shop.py").write_text(
        "import pipeline\n\n\ndef test(recorded_events):\n"
        "    pipeline.track_event.delay('x')\n    assert len(recorded_events) == 1\n"
    )
    options = ("-p", "no:cacheprovider", f"{environment.directory}/test_shop.py")
    assert "1 passed" in python("-m", "pytest", *options, executable=environment.python)

    send = f"""
import pipeline
pipeline.configure(redis_url={workers.environment["ANALYTICS_REDIS_URL"]!r})
for _ in range(7):
    pipeline.track_event.delay("page_view")
"""
    python("-c", send, executable=environment.python)
    options = ("-A", "pipeline.cli.workers", "worker", "-Q", "analytics.events", "-P", "solo")
    for name, command in {
        "events": ("analytics", "worker", "events"),
        "flush": ("analytics", "worker", "flush"),
        "beat": ("analytics", "beat"),
        "flower": ("analytics", "flower", "--port", str(free_port())),
        "celery": ("python", "-m", "celery", *options, "-n", "other@tests"),
    }.items():
        environment.start(name, workers, *command)
    eventually(lambda: client.hget("analytics:totals", "counted") == b"7")
    said = {worker.name: worker for worker in workers.started}
    for name, text in {
        "events": "ready.",
        "flush": "ready.",
        "beat": "beat: Starting",
        "flower": "Visit me at",
        "celery": "ready.",
    }.items():
        worker = said[name]
        eventually(lambda w=worker, t=text: t in w.said() or not w.alive(), what=worker.said())
        assert worker.alive(), worker.said()


def test_another_package_called_pipeline_is_named_in_one_line(
    environment: Environment, wheel: Path, workers: Workers
) -> None:
    environment.install_theirs("django-pipeline")
    overwritten = environment.start("overwritten", workers, "analytics", "settings")
    assert overwritten.wait(30) == 1
    (line,) = overwritten.said().splitlines()
    assert "django-pipeline has overwritten files of it" in line
    assert "pip install --force-reinstall --no-deps analytics-pipeline" in line

    environment.install(wheel)
    python("-c", "from pipeline import track_event", executable=environment.python)
    worker = environment.start("worker", workers, "analytics", "worker", "events")
    eventually(lambda: "install them in two environments" in worker.said(), what=worker.said())
