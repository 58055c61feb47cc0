"""Prometheus' rules: as the code says, read by Prometheus' own checks, with a page for each."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from pipeline.measures import MEASURES
from pipeline.metrics.processes import PROCESS_METRICS
from pipeline.metrics.state import PREFIX, STATE_METRICS
from pipeline.upkeep.condition.alarms import ALARMS, METRICS_SILENT, Alarm
from pipeline.watch.rules import make_rules, name_alert

ROOT = Path(__file__).parents[3]
PROMETHEUS = ROOT / "config" / "prometheus"
PAGES = ROOT / "docs" / "guides" / "operating" / "alarms"
EACH = [*ALARMS, METRICS_SILENT]


def run_promtool(*arguments: str, cwd: Path = PROMETHEUS) -> None:
    program = shutil.which("promtool")
    if program is None:
        assert not os.environ.get("CI"), "promtool is not installed (package prometheus)"
        pytest.skip("needs promtool (package prometheus)")
    done = subprocess.run(
        [program, *arguments], cwd=cwd, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_file_is_as_the_code_says() -> None:
    made = (PROMETHEUS / "alerts.yml").read_text(encoding="utf-8")
    assert made == make_rules(), "python -m pipeline.watch.rules config/prometheus/alerts.yml"


def test_the_configuration_is_one_of_prometheus() -> None:
    run_promtool("check", "config", "prometheus.yml")


def describe_test(alarm: Alarm) -> dict[str, object]:
    """Raised after a minute, for a minute, and over after two: of all alerts this one alone."""
    series = [
        {"series": f'{PREFIX}alarm{{alarm="{one.name}"}}', "values": values}
        for one in ALARMS
        for values in ["0 1 1 0 0" if one == alarm else "0x4"]
    ]
    up = {
        "series": f"{PREFIX}up",
        "values": "1 stale stale 1 1" if alarm == METRICS_SILENT else "1x4",
    }
    labels = {} if alarm == METRICS_SILENT else {"alarm": alarm.name}
    expected = {
        "exp_labels": {**labels, "severity": "warning" if alarm.gravity == "late" else "critical"},
        "exp_annotations": {
            "summary": f"{alarm.what[:1].upper()}{alarm.what[1:]}",
            "runbook": alarm.page,
        },
    }
    return {
        "interval": "1m",
        "input_series": [*series, up],
        "alert_rule_test": [
            {
                "eval_time": at,
                "alertname": name_alert(one),
                "exp_alerts": [expected] if one == alarm and at == "2m" else [],
            }
            for one in EACH
            for at in ("0m", "2m", "4m")
        ],
    }


def test_each_rule_fires_for_its_own_alarm_and_no_other(tmp_path: Path) -> None:
    shutil.copy(PROMETHEUS / "alerts.yml", tmp_path)
    tests = {
        "rule_files": ["alerts.yml"],
        "evaluation_interval": "15s",
        "tests": [describe_test(alarm) for alarm in EACH],
    }
    (tmp_path / "tests.yml").write_text(json.dumps(tests), encoding="utf-8")  # JSON is YAML
    run_promtool("test", "rules", "tests.yml", cwd=tmp_path)


@pytest.mark.parametrize("alarm", EACH, ids=lambda alarm: alarm.name)
def test_each_alarm_has_its_page(alarm: Alarm) -> None:
    page = (ROOT / alarm.page).read_text(encoding="utf-8")
    for part in ("# ", "## What to examine", "## What to do", "**It clears when:**"):
        assert f"\n{part}" in f"\n{page}"
    listed = (PAGES / "README.md").read_text(encoding="utf-8")
    row = f"| [`{alarm.name}`]({alarm.gravity}/{alarm.name}.md) | `{name_alert(alarm)}` | "
    assert f"{row}{alarm.gravity} | {alarm.what} |" in listed


def test_no_page_is_of_an_alarm_that_is_gone() -> None:
    pages = {f"{page.relative_to(ROOT)}" for page in PAGES.glob("*/*.md")}
    assert pages == {alarm.page for alarm in EACH}


def test_pages_name_metrics_that_exist() -> None:
    texts = [page.read_text(encoding="utf-8") for page in PAGES.rglob("*.md")]
    named = {name for text in texts for name in re.findall(rf"`{PREFIX}(\w+)[`{{]", text)}
    assert named
    assert named - {"daily", "hourly"} <= {one.name for one in STATE_METRICS}


# The board of Grafana


BOARD = ROOT / "config" / "grafana" / "boards" / "analytics.json"


def find_expressions() -> list[str]:
    board = json.loads(BOARD.read_text(encoding="utf-8"))
    return [target["expr"] for panel in board["panels"] for target in panel["targets"]]


def test_the_board_asks_for_metrics_that_exist() -> None:
    known = {one.name for one in (*STATE_METRICS, *PROCESS_METRICS)}
    known |= {f"{one.name}_bucket" if one.buckets else one.name for one in MEASURES}
    asked = {name for one in find_expressions() for name in re.findall(rf"{PREFIX}(\w+)", one)}
    assert asked <= known


def test_prometheus_can_read_what_the_board_asks(tmp_path: Path) -> None:
    rules = [{"record": f"r:{at}", "expr": one} for at, one in enumerate(find_expressions())]
    (tmp_path / "board.yml").write_text(json.dumps({"groups": [{"name": "b", "rules": rules}]}))
    run_promtool("check", "rules", "board.yml", cwd=tmp_path)


def test_panels_of_the_board_do_not_lie_over_each_other() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in json.loads(BOARD.read_text(encoding="utf-8"))["panels"]:
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not taken & cells, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells


def test_grafana_is_given_the_board_and_the_prometheus_of_the_compose_file() -> None:
    grafana = ROOT / "config" / "grafana" / "provisioning"
    [source] = yaml.safe_load((grafana / "datasources/prometheus.yml").read_text())["datasources"]
    [provider] = yaml.safe_load((grafana / "dashboards/analytics.yml").read_text())["providers"]
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    assert source["url"] == "http://prometheus:9090"
    assert "prometheus" in services
    mounts = services["grafana"]["volumes"]
    assert f"./config/grafana/boards:{provider['options']['path']}:ro" in mounts
