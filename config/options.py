"""The options of the pipeline's parts, as the settings have them."""

from __future__ import annotations

from config.settings import Settings
from pipeline.options import CounterOptions, EventLogOptions, PipelineOptions


def pipeline_options(settings: Settings) -> PipelineOptions:
    """What the parts of the pipeline are made with."""
    event_log = EventLogOptions(
        types=settings.event_log,
        partitions=settings.event_log_partitions,
        max_entries=settings.event_log_max_entries,
        max_bytes=settings.event_log_max_bytes,
    )
    secret = settings.user_id_secret
    return PipelineOptions(
        prefix=settings.prefix,
        counters=CounterOptions(
            count_by=settings.count_by,
            sums=settings.sum,
            values_cap=settings.values_cap,
            event_types_cap=settings.event_types_cap,
            dedup_window_s=settings.dedup_window_s,
            counter_ttl_s=settings.counter_ttl_s,
            event_log=event_log,
            user_id_secret=secret.get_secret_value() if secret else "",
        ),
        flush_batch_size=settings.flush_batch_size,
        ledger_days=settings.ledger_days,
        partitions_ahead_months=settings.partitions_ahead_months,
        events_retention_days=settings.events_retention_days,
        counters_retention_days=settings.counters_retention_days,
        flush_interval_s=settings.flush_interval_s,
        appendfsync=settings.appendfsync,
        postgres_schema=settings.postgres_schema,
    )
