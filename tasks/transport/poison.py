"""What becomes of a message that makes no sense: it ends no worker, and is one line in its log."""

from __future__ import annotations

import logging
from collections.abc import Callable
from queue import Empty
from typing import Any

from kombu.transport import virtual

from pipeline.redis.scripts import Script

_LONGEST_REASON = 500
"""Characters of what was wrong, in the log and with the dead letter."""
_BURY_SCRIPT = Script("tasks.transport.bury")

logger = logging.getLogger(__name__)


def bury(channel: Any, tag: str, raw: bytes, error: Exception) -> None:
    """Make a message of a queue, which `error` says cannot be handled, a dead letter."""
    reason = _describe(error)
    logger.error("message %s becomes a dead letter: %s", tag, reason)
    keys = [
        *(channel.unacked_key, channel.unacked_index_key),
        *(channel.dead_letters_key, channel.totals_key),
    ]
    with channel.conn_or_acquire() as client:
        _BURY_SCRIPT.run(client, keys=keys, args=[tag, raw, f"message: {reason}"])
    virtual.QoS.ack(channel.qos, tag)


def receive_broadcast(
    receive_one: Callable[[Any], Any], client: Any, server_errors: tuple[type[Exception], ...]
) -> Any:
    """Receive a message for all workers with kombu's `receive_one`. Of one that is nested too deep
    to be read, Empty is raised, which kombu passes over."""
    try:
        return receive_one(client)
    except Empty:
        raise
    except server_errors:
        raise
    except Exception as error:
        logger.error("a broadcast cannot be read and is dropped: %s", _describe(error))
        raise Empty from error


def drop_broadcast(exchange: str, error: Exception) -> None:
    """Drop a message for all workers, such as a control command: each of them has its own copy, and
    none would ever act on it."""
    logger.error("a broadcast to %s is dropped: %s", exchange, _describe(error))


def _describe(error: Exception) -> str:
    return f"{error!r}"[:_LONGEST_REASON]
