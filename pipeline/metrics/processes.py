"""What is said of the processes of a machine, beside what they measure."""

from __future__ import annotations

from pipeline.metrics.state import EACH, StateMetric

PROCESS_METRICS = (
    StateMetric(
        "processes",
        "processes of this machine that are measured, by role: `events`, `flush`, `web`",
        ("processes", EACH),
        "role",
    ),
    StateMetric(
        "process_resident_memory_bytes",
        "memory of these processes, in all, by role",
        ("memory_bytes", EACH),
        "role",
    ),
)
