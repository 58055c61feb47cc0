"""Every setting: its name, type, default and meaning. They come from the environment only.

The environment variable of a setting is its name in capitals after `ANALYTICS_`.
"""

from __future__ import annotations

import logging
from functools import cache
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SecretStr,
    StrictInt,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticUseDefault
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from config import values
from config.description import PREFIX, explain_errors, find_unknown_variables, name_variable
from pipeline import urls
from pipeline.contract import PAGE_PROPERTIES
from pipeline.errors import InvalidConfiguration
from pipeline.installation import DEFAULT_PREFIX, check_prefix
from pipeline.options import DEFAULT_SUMS
from pipeline.urls import redis_address

logger = logging.getLogger(__name__)


class Settings(BaseSettings):
    """What an installation can choose. Immutable; `load()` reads and checks it."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid")

    redis_url: SecretStr | None = Field(
        default=None,
        description="Redis for counters and broker: redis://, rediss:// or "
        "sentinel://…?master_name=NAME. Unset: a private server started by `analytics up`",
    )
    broker_url: SecretStr | None = Field(
        default=None,
        description="RabbitMQ as the broker: amqp://USER:PASSWORD@HOST:5672/VHOST or amqps://…; "
        "counters stay in Redis. Unset: Redis is the broker too",
    )
    postgres_url: SecretStr | None = Field(
        default=None,
        description="Postgres for the stored counts: postgresql://USER:PASSWORD@HOST:5432/NAME, or "
        "another address that libpq takes. Unset: a private server started by `analytics up`",
    )
    postgres_schema: str | None = Field(
        default=None,
        description="Schema of our tables in Postgres, which `analytics migrate` makes if it can. "
        "Unset: where the user's search_path leads",
    )
    data_dir: Path = Field(
        default=Path(".analytics"),
        description="Directory of the private servers' data and addresses",
    )
    prefix: Annotated[str, AfterValidator(check_prefix)] = Field(
        default=DEFAULT_PREFIX,
        description="What every Redis key of ours begins with, and, without its colon, every queue",
    )
    count_by: Annotated[dict[str, list[str]], NoDecode, AfterValidator(values.check_count_by)] = (
        Field(
            default_factory=dict,
            description="Properties whose values are counted, as JSON: "
            '{"page_view": ["path"], "sale": ["plan", "plan+country"]}; `+` counts values together',
        )
    )
    sum: Annotated[dict[str, dict[str, StrictInt]], NoDecode, AfterValidator(values.check_sums)] = (
        Field(
            default_factory=lambda: {name: dict(of) for name, of in DEFAULT_SUMS.items()},
            description="Properties whose numbers are summed, with the decimals that are kept, as "
            'JSON: {"sale": {"total": 2}}; `{}`: none',
        )
    )
    values_cap: int = Field(
        default=10_000,
        ge=1,
        le=10_000_000,
        description="Distinct values counted per type, property and day; "
        "the rest go to `__other__`",
    )
    event_types_cap: int = Field(
        default=1_000,
        ge=1,
        le=100_000,
        description="Distinct event types counted per day; the rest go to `__other__`",
    )
    dedup_window_s: int = Field(
        default=86_400,
        ge=60,
        le=31 * 86_400,
        description="Seconds in which a second event with the same event_id is a duplicate",
    )
    counter_ttl_s: int = Field(
        default=0,
        ge=0,
        description="Lifetime in seconds of a counter that is not yet stored, for users and values "
        "since the newest of their bucket; what expires is lost. 0: none",
    )
    flush_interval_s: float = Field(
        default=300, ge=0.1, le=86_400, description="Seconds between two flushes"
    )
    flush_batch_size: int = Field(
        default=10_000,
        ge=1,
        le=100_000,
        description="Counters stored in Postgres in the first transactions of a flush, and the "
        "rest of the bucket taken last",
    )
    flush_threshold: int = Field(
        default=50_000,
        ge=1,
        description="Pending counters past which a worker asks for a flush early",
    )
    ledger_days: int = Field(
        default=90, ge=7, le=3_650, description="Days for which the ids of stored batches are kept"
    )
    partitions_ahead_months: int = Field(
        default=3, ge=1, le=24, description="Months for which partitions are created in advance"
    )
    event_log: Annotated[Literal["all", "none"] | list[str], NoDecode] = Field(
        default="all",
        description="Raw events that are logged for the archive: `all`, `none`, or event types "
        'as JSON: ["page_view"]',
    )
    event_log_partitions: int = Field(
        default=1, ge=1, le=16, description="Streams of the event log, by event type"
    )
    event_log_max_entries: int = Field(
        default=1_000_000,
        ge=1,
        description="Entries (batches) a stream holds before raw events are no longer logged",
    )
    event_log_max_bytes: int = Field(
        default=512 * 1024 * 1024,
        ge=1,
        description="Bytes of raw events a stream holds before they are no longer logged",
    )
    events_retention_days: int = Field(
        default=90, ge=0, description="Days for which raw events are kept. 0: for ever"
    )
    counters_retention_days: int = Field(
        default=400,
        ge=0,
        description="Days for which user and property counters are kept. 0: for ever",
    )
    appendfsync: Literal["always", "everysec"] = Field(
        default="always",
        description="When Redis must sync its append-only file: `always` loses nothing, "
        "`everysec` may lose two seconds when Redis is killed",
    )
    visibility_timeout_s: int = Field(
        default=60,
        ge=1,
        le=3_600,
        description="Seconds after which a dead worker's messages return",
    )
    publish_timeout_s: float = Field(
        default=30,
        gt=0,
        le=600,
        description="Seconds for which a publish is tried before it raises",
    )
    enabled: bool = Field(
        default=True,
        description="Whether events are sent. 0, for tests of applications: they are checked and "
        "dropped, and no worker starts",
    )
    event_workers: int = Field(
        default=1, ge=1, le=256, description="Event workers that `analytics up` starts"
    )
    flower_port: int = Field(
        default=5_555,
        ge=0,
        le=65_535,
        description="Port of Flower under `analytics up`. 0: no Flower",
    )
    web_port: int = Field(
        default=8_080,
        ge=0,
        le=65_535,
        description="Port of the web server; under `analytics up` 0: no web server",
    )
    user_id_secret: SecretStr | None = Field(
        default=None,
        description="HMAC secret for pseudonymising user ids, for every process. Unset: they are "
        "kept as they come",
    )
    key_events_per_s: int = Field(
        default=50_000,
        ge=0,
        description="Events a second that the collector takes with one write key. 0: any number",
    )
    page_key_events_per_s: int = Field(
        default=1_000,
        ge=0,
        description="Events a second that the collector takes with one write key that has origins, "
        "unless the key has a rate of its own. 0: as many as with any key",
    )
    address_requests_per_s: int = Field(
        default=1_000,
        ge=0,
        description="Requests a second that the collector takes from one address. 0: any number",
    )
    sessions: bool = Field(
        default=False,
        description="Whether events of visitors get the id of a session, without cookies",
    )
    page_properties: Annotated[
        list[str],
        NoDecode,
        BeforeValidator(values.decode_page_properties),
        AfterValidator(values.check_page_properties),
    ] = Field(
        default_factory=list,
        description="What the collector adds to page views, as JSON: some of "
        f"{list(PAGE_PROPERTIES)}".replace("'", '"'),
    )
    trusted_proxies: Annotated[list[str], NoDecode, BeforeValidator(values.decode_networks)] = (
        Field(
            default_factory=list,
            description="Proxies whose X-Forwarded-For is believed, as JSON: "
            '["10.0.0.7", "192.168.0.0/16"]',
        )
    )
    metrics_port: int = Field(
        default=0,
        ge=0,
        le=65_535,
        description="Port on which the workers and web servers of a machine serve what happens in "
        "them, and `analytics up` the state of the pipeline too, for Prometheus. 0: none",
    )
    metrics_address: str = Field(
        default="127.0.0.1",
        description="Address of that port; it asks for no login. 0.0.0.0: all of this machine's",
    )
    alarm_webhook: SecretStr | None = Field(
        default=None,
        description="URL to which `analytics watch`, which `analytics up` then starts, posts "
        "alarms. Unset: none",
    )
    alarm_mail_to: Annotated[str | None, AfterValidator(values.check_addresses)] = Field(
        default=None,
        description="Addresses to which `analytics watch` mails alarms, with commas between them",
    )
    alarm_smtp_url: SecretStr | None = Field(
        default=None,
        description="Mail server for that: smtp://USER:PASSWORD@HOST:587 or smtps://…. Unset: this "
        "machine's, smtp://localhost",
    )
    traces: bool = Field(
        default=False,
        description="Whether spans are recorded and sent as OpenTelemetry's variables say (OTEL_…)",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] = Field(
        default="INFO", description="Least severe messages that are logged"
    )
    log_format: Literal["text", "json"] = Field(
        default="text", description="Log lines for people (`text`) or for a collector (`json`)"
    )

    @field_validator("redis_url")
    @classmethod
    def _check_redis_url(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            redis_address.parse_redis_url(value.get_secret_value())
        return value

    @field_validator("broker_url")
    @classmethod
    def _check_broker_url(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            urls.check_amqp_url(value.get_secret_value())
        return value

    @field_validator("alarm_webhook", "alarm_smtp_url")
    @classmethod
    def _check_alarm_url(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if value is not None:
            values.check_url(value.get_secret_value(), info.field_name or "")
        return value

    @field_validator("postgres_url")
    @classmethod
    def _normalise_postgres_url(cls, value: SecretStr | None) -> SecretStr | None:
        if value is None:
            return None
        return SecretStr(urls.normalise_postgres_url(value.get_secret_value()))

    @field_validator("postgres_schema")
    @classmethod
    def _check_schema(cls, value: str | None) -> str | None:
        if value is not None:
            values.check_schema(value)
        return value

    @field_validator("data_dir")
    @classmethod
    def _check_directory(cls, value: Path) -> Path:
        return values.check_directory(value)

    @field_validator("count_by", mode="before")
    @classmethod
    def _decode_count_by(cls, value: object) -> object:
        return values.decode_json(value, 'JSON such as {"page_view": ["path"]}')

    @field_validator("event_log", mode="before")
    @classmethod
    def _decode_event_log(cls, value: object) -> object:
        return values.decode_logged_types(value)

    @field_validator("sum", mode="before")
    @classmethod
    def _decode_sum(cls, value: object) -> object:
        return values.decode_json(value, 'JSON such as {"sale": {"total": 2}}')

    @field_validator("user_id_secret")
    @classmethod
    def _check_secret(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            values.check_secret(value.get_secret_value())
        return value

    @field_validator("log_level", mode="before")
    @classmethod
    def _capitalise_level(cls, value: object) -> object:
        return value.upper() if isinstance(value, str) else value

    # The last of its kind, because pydantic runs these from the last to the first.
    @field_validator("*", mode="before")
    @classmethod
    def _refuse_empty(cls, value: object, info: ValidationInfo) -> object:
        # Kubernetes sets ANALYTICS_WEB_PORT=tcp://… where a service is called analytics-web.
        variable = name_variable(info.field_name or "")
        if isinstance(value, str) and values.is_service_variable(variable, value):
            raise PydanticUseDefault
        # An empty variable is nearly always a failed substitution. Taken as unset it would, for a
        # server's URL, silently start a private server in place of the real one.
        if isinstance(value, str) and not value.strip():
            raise ValueError("must not be empty; give a value, or unset the variable")
        return value

    @model_validator(mode="after")
    def _check_counter_ttl(self) -> Self:
        if 0 < self.counter_ttl_s < 2 * self.flush_interval_s:
            raise ValueError(
                f"{PREFIX}COUNTER_TTL_S={self.counter_ttl_s}: counters would expire before they "
                f"are flushed; give 0 (no lifetime), or at least twice "
                f"{PREFIX}FLUSH_INTERVAL_S ({self.flush_interval_s:g})"
            )
        return self

    def require_enabled(self, what: str) -> None:
        """Raise `InvalidConfiguration` where sending is turned off, for what would then lose
        events."""
        if not self.enabled:
            raise InvalidConfiguration(
                f"{PREFIX}ENABLED=0 is for the tests of applications, whose events it drops: "
                f"{what} would count none; unset it, or set it to 1"
            )


@cache
def _warn_once(line: str) -> None:
    logger.warning("%s", line)


def load() -> Settings:
    """The settings of this process's environment.

    Raises `InvalidConfiguration` with one line for every variable that is wrong, misspelt ones
    included: they would otherwise leave a default in force without a word. An unknown one that is
    not nearly called like a setting may be another program's: it is logged, once.
    """
    lines = []
    for unknown in find_unknown_variables(Settings.model_fields):
        if unknown.meant is not None:
            lines.append(str(unknown))
        else:
            _warn_once(str(unknown))
    try:
        settings = Settings()
    except ValidationError as error:
        lines += explain_errors(error, Settings.model_fields)
    if lines:
        raise InvalidConfiguration("\n".join(lines))
    return settings
