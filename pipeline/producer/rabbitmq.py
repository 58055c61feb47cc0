"""RabbitMQ as the broker, while the counters stay in Redis: Celery's options for workers and
producers.

Its queues are quorum queues: replicated where RabbitMQ is a cluster, and on disk before a publish
is confirmed. Consumption and count are two steps here, so a message that is delivered again is
known by its task id, for as long as the duplicate window lasts.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any
from urllib.parse import parse_qsl

from celery import Celery
from kombu import Connection, Exchange, Queue
from kombu.exceptions import OperationalError

from pipeline import urls
from pipeline.backoff import grow_pauses
from pipeline.errors import InvalidConfiguration, ServerUnavailable
from pipeline.producer.publisher import PublishUnconfirmed

_SCHEMES = tuple(f"{scheme}://" for scheme in urls.AMQP_SCHEMES)
QUEUE_ARGUMENTS = {
    "x-queue-type": "quorum",
    # RabbitMQ 4 throws a message away that came back 20 times, as it does when workers are killed.
    # Its word for "never", -1, makes RabbitMQ 3.10 throw it away the first time; so a number that
    # no message reaches.
    "x-delivery-limit": 1_000_000_000,
}
_CERTIFICATE_RULES = {
    "required": ssl.CERT_REQUIRED,
    "optional": ssl.CERT_OPTIONAL,
    "none": ssl.CERT_NONE,
}
_CONNECT_TIMEOUT_S = 5
_CONFIRM_TIMEOUT_S = 5
_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 1.0


def celery_options(url: str, queues: Iterable[str]) -> dict[str, Any]:
    """Celery's options for this broker; they replace those of the same names for Redis.

    `url`: `amqp://` or `amqps://`, or several nodes of a cluster joined by `;`. The first
    worker or producer declares the queues. Raises `InvalidConfiguration` for another URL.
    """
    if not url.startswith(_SCHEMES):
        raise InvalidConfiguration(
            f"the broker URL {urls.mask_url(url)} is not one of RabbitMQ: use "
            "amqp://USER:PASSWORD@HOST:5672/VHOST, or leave it out to have Redis as the broker"
        )
    address, _, query = url.partition("?")
    return {
        "broker_url": address,
        "broker_use_ssl": _tls(dict(parse_qsl(query))) if url.startswith("amqps://") else None,
        # A publish returns when the queue has the message, not when the socket has it.
        "broker_transport_options": {"confirm_publish": True},
        "task_queues": [
            Queue(
                name, exchange=Exchange(""), routing_key=name, queue_arguments=dict(QUEUE_ARGUMENTS)
            )
            for name in queues
        ],
    }


def publish_confirmed(app: Celery, send: Callable[..., Any], timeout_s: float) -> Any:
    """Call `send`, a task's `apply_async` with everything but the options added here, until
    RabbitMQ has confirmed, for `timeout_s` at most; returns what it returned.

    Raises kombu's OperationalError when RabbitMQ refused, `PublishUnconfirmed` when it may have
    taken the message.
    """
    from amqp import AMQPError, IrrecoverableChannelError, IrrecoverableConnectionError

    deadline_s = time.monotonic() + timeout_s
    pauses = grow_pauses(_FIRST_PAUSE_S, _LONGEST_PAUSE_S, deadline_s)
    while True:
        # A confirm may never come: not while the broker is short of memory or disk, nor for what it
        # got before its queues had started.
        left_s = max(_FIRST_PAUSE_S, min(_CONFIRM_TIMEOUT_S, deadline_s - time.monotonic()))
        try:
            with _connection_of(app) as connection:
                publisher = app.amqp.Producer(connection, auto_declare=False)
                # Mandatory: what is for a queue deleted meanwhile would be confirmed and dropped.
                return send(producer=publisher, retry=False, confirm_timeout=left_s, mandatory=True)
        except (IrrecoverableChannelError, IrrecoverableConnectionError) as error:
            raise OperationalError(f"RabbitMQ refused the event: {error}") from error
        except (OperationalError, AMQPError) as error:
            pause_s = next(pauses, None)
            if pause_s is None:
                reason = f"RabbitMQ did not confirm the event in {timeout_s:g} s: {error}"
                raise PublishUnconfirmed(reason, partial(publish_confirmed, app, send)) from error
            time.sleep(pause_s)


@contextmanager
def _connection_of(app: Celery) -> Iterator[Connection]:
    """A connection of the app's pool, dropped after an error. The pool would close it in order, and
    wait for a broker that does not answer."""
    connection = app.pool.acquire(block=True)
    try:
        yield connection
    except BaseException:
        connection.collect()
        raise
    finally:
        connection.release()


def queue_depth(url: str, queue: str) -> int:
    """How many messages wait in the queue, without those in flight. Raises
    `ServerUnavailable`."""
    from amqp import AMQPError, NotFound

    options = celery_options(url, ())
    try:
        with Connection(
            options["broker_url"], ssl=options["broker_use_ssl"], connect_timeout=_CONNECT_TIMEOUT_S
        ) as connection:
            declared = connection.default_channel.queue_declare(queue, passive=True)
            return int(declared.message_count)
    except NotFound:  # nothing was sent or consumed yet
        return 0
    except (OperationalError, AMQPError, OSError) as error:
        raise ServerUnavailable(
            f"RabbitMQ does not answer ({error}): start it, or correct ANALYTICS_BROKER_URL"
        ) from error


def _tls(parameters: dict[str, str]) -> dict[str, Any]:
    rule = _CERTIFICATE_RULES.get(parameters.get("ssl_cert_reqs", ""), ssl.CERT_REQUIRED)
    files = {
        "ca_certs": parameters.get("ssl_ca_certs"),
        "certfile": parameters.get("ssl_certfile"),
        "keyfile": parameters.get("ssl_keyfile"),
    }
    options: dict[str, Any] = {"cert_reqs": rule, **{k: v for k, v in files.items() if v}}
    if rule is not ssl.CERT_NONE:
        # None is kombu's word for the host of the URL: the certificate must be that host's.
        options["server_hostname"] = None
    return options
