"""What the web application depends on: clients and values, given by a composition root."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from threading import Event

import redis

from pipeline.access.key_store import AccessKeyStore
from pipeline.services import Services
from pipeline.web.server.connections import ConnectionLimits


@dataclass(frozen=True)
class WebOptions:
    """The values that the web application needs; the first eight are settings."""

    user_id_secret: str = field(default="", repr=False)
    """HMAC secret for pseudonymising user ids; empty: they are stored as they come."""
    key_events_per_s: int = 0
    """Events a second that one write key may send; 0: any number."""
    page_key_events_per_s: int = 0
    """Events a second that one write key with origins may send; 0: as many as any."""
    address_requests_per_s: int = 0
    """Requests a second to the collector from one address; 0: any number."""
    trusted_proxies: Sequence[str] = ()
    """Addresses or networks of proxies whose X-Forwarded-For is believed; empty: none."""
    log_level: str = "INFO"
    page_properties: Sequence[str] = ()
    """What the collector adds to page views: see `pipeline.contract.PAGE_PROPERTIES`."""
    sessions: bool = False
    """Whether events of visitors have the id of a session."""

    connection_limits: ConnectionLimits = field(default_factory=ConnectionLimits)
    """How slow clients may be, and how many."""
    publish_timeout_s: float = 1.5
    """How long a request waits for its message to be published before it is refused (503)."""
    max_waiting_bytes: int = 64 * 1024 * 1024
    """Events that wait to be published, at most; past that a request is refused (503)."""


@dataclass(frozen=True)
class WebDependencies:
    """Everything that the routes work with. The collector publishes with `pipeline.producer`, as
    that is configured."""

    services: Services
    redis: redis.Redis
    """A client that gives a server one second to answer."""
    access_keys: AccessKeyStore
    options: WebOptions
    stopping: Event = field(default_factory=Event)
    """Set when the server is to stop: endless streams then end."""
