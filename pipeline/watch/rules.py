"""Prometheus' rules, made from the list of alarms.

The verdict is in the metric `analytics_alarm`, so Prometheus, `analytics watch` and the dashboard
cannot differ. `python -m pipeline.watch.rules config/prometheus/alerts.yml` writes the file.
"""

from __future__ import annotations

import sys
from pathlib import Path

from pipeline.upkeep.condition.alarms import ALARMS, METRICS_SILENT, Alarm

_HEAD = """\
# Alarms of the pipeline, made from the code by
#     python -m pipeline.watch.rules config/prometheus/alerts.yml
# (`analytics watch --rules` prints them too). What to do for each:
# docs/guides/operating/alarms/README.md

groups:
  - name: analytics
    rules:
"""
_RULE = """\
      - alert: {name}
        expr: {expression}
        for: {for_s}s
        labels:
          severity: {severity}
        annotations:
          summary: "{what}"
          runbook: {page}
"""
_FOR_S = 15
"""Longer than workers need to say that they live, once Redis is back."""
_METRICS_FOR_S = 60


def make_rules() -> str:
    """The file, in YAML."""
    rules = [
        _make_rule(one, f'analytics_alarm{{alarm="{one.name}"}} == 1', _FOR_S) for one in ALARMS
    ]
    rules.append(_make_rule(METRICS_SILENT, "absent(analytics_up)", _METRICS_FOR_S))
    return _HEAD + "".join(rules)


def name_alert(alarm: Alarm) -> str:
    """Its name in Prometheus: `AnalyticsFlushLate`."""
    return "Analytics" + "".join(word.capitalize() for word in alarm.name.split("_"))


def _make_rule(alarm: Alarm, expression: str, for_s: int) -> str:
    return _RULE.format(
        name=name_alert(alarm),
        expression=expression,
        for_s=for_s,
        severity="warning" if alarm.gravity == "late" else "critical",
        what=alarm.what[:1].upper() + alarm.what[1:],
        page=alarm.page,
    )


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(make_rules(), encoding="utf-8")
