"""Where OpenTelemetry is not installed: off, nothing is different; on, a line says what to do."""

from __future__ import annotations

from tests.helpers.processes import run_python

HIDING = """
import sys
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name == {hidden!r} or name.startswith({hidden!r} + "."):
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Hidden())
"""
REMEDY = "pip install 'analytics-pipeline[otel]'"


def run_without(hidden: str, program: str, **environment: str) -> tuple[int, str]:
    ran = run_python("-c", HIDING.format(hidden=hidden) + program, environment=environment)
    return ran.returncode, ran.stdout + ran.stderr


def test_off_nothing_of_it_is_loaded_by_applications_or_workers() -> None:
    program = """
from pipeline import track_event
from pipeline.producer.app import configure, envelope
import tasks.jobs, tasks.consumer.step, pipeline.flushing.flush
configure(redis_url="redis://127.0.0.1:1")
envelope("analytics.track_event", 1).message("id", "tag", (), {}, "")
print([name for name in sys.modules if name.startswith("opentelemetry")])
"""
    assert run_without("opentelemetry", program) == (0, "[]\n")


def test_switched_on_without_it_an_application_is_told_the_extra() -> None:
    program = "from pipeline import track_event; track_event.delay('sale')"
    status, said = run_without("opentelemetry", program, ANALYTICS_TRACES="1")
    assert status == 1
    line = said.strip().splitlines()[-1]
    assert line.startswith("pipeline.errors.InvalidConfiguration: traces=True (ANALYTICS_TRACES=1)")
    assert REMEDY in line


def test_switched_on_without_it_a_worker_does_not_start(redis_url: str) -> None:
    program = "sys.argv[1:] = ['worker', 'events']; from pipeline.cli import main; main()"
    settings = {"ANALYTICS_TRACES": "1", "ANALYTICS_REDIS_URL": redis_url}
    status, said = run_without("opentelemetry.exporter", program, **settings)
    assert status == 1
    assert "analytics: ANALYTICS_TRACES=1 needs opentelemetry.exporter" in said
    assert REMEDY in said
    assert "Traceback" not in said
