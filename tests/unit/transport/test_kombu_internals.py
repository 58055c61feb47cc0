"""The transport leans on parts of kombu, Celery and redis-py that their authors may change.

When a test here fails after an upgrade: read what changed in the function named, against
the modules of `tasks/transport`; mend those if need be; run their tests;
then put the new digest here (the message has it).
"""

from __future__ import annotations

import hashlib
import importlib
import inspect

import pytest

READ = {
    # Overridden, and what the override does instead of it or around it.
    "kombu.transport.redis:Channel.__init__": "f189bdebe243",
    "kombu.transport.redis:Channel._connparams": "e9a4295085a8",
    "kombu.transport.redis:Channel.conn_or_acquire": "25883caca6c4",
    "kombu.transport.redis:Channel._disconnect_pools": "db50da048a22",
    "kombu.transport.redis:Channel.basic_consume": "34e0da85e689",
    "kombu.transport.redis:Channel._basic_cancel": "f799ede50375",
    "kombu.transport.redis:Channel._brpop_start": "06723d707ddf",
    "kombu.transport.redis:Channel._brpop_read": "c42518699709",
    "kombu.transport.redis:Channel._restore": "92e63e38835b",
    "kombu.transport.redis:Channel._get_client": "5755dae7624c",
    "kombu.transport.redis:Channel._queue_bind": "29b73e023af6",
    "kombu.transport.redis:Channel._receive_one": "d59b8751d897",
    "kombu.transport.redis:Channel._deliver_fanout_message": "06662335a70a",
    "kombu.transport.redis:Channel.close": "101e9b9cdad4",
    "kombu.transport.redis:QoS.append": "35c655f6ecc6",
    "kombu.transport.redis:QoS.restore_visible": "d4a4a40a3eaf",
    "kombu.transport.redis:QoS.restore_unacked": "8954efef014d",
    "kombu.transport.redis:QoS.restore_by_tag": "58e161d81b6f",
    "kombu.transport.virtual.base:Channel.basic_consume": "0fec96269493",
    "kombu.transport.virtual.base:Channel.basic_get": "ba4884c15b6b",
    "kombu.transport.virtual.base:Channel.close": "26368e1cadfc",
    "kombu.transport.virtual.base:QoS.can_consume": "787f80092f8d",
    # Called, or relied on to call us at the right moment.
    "kombu.transport.redis:QoS.ack": "1bc15a4ddf54",
    "kombu.transport.redis:QoS.reject": "747a02434344",
    "kombu.transport.redis:QoS._remove_from_indices": "980a109d54ad",
    "kombu.transport.redis:Channel._create_client": "dae92bc4075d",
    "kombu.transport.redis:Channel._get": "be26a9f1eb4c",
    "kombu.transport.redis:Channel._put": "1c0cf9749576",
    "kombu.transport.redis:Channel._do_restore_message": "8b430df94e45",
    "kombu.transport.redis:Channel._q_for_pri": "f3997660680d",
    "kombu.transport.redis:Channel._maybe_update_queues_expire": "104bcd671ad5",
    "kombu.transport.redis:Channel._flush_brpop_reauth": "bb4930b4fd3c",
    "kombu.transport.redis:Channel._on_connection_disconnect": "9eab3394f78b",
    "kombu.transport.redis:Channel._close_clients": "0e15da1c9ab7",
    "kombu.transport.redis:MultiChannelPoller": "0530f30a9dec",
    "kombu.transport.redis:Transport.register_with_event_loop": "4b835642e4a9",
    "kombu.transport.redis:SentinelChannel._sentinel_managed_pool": "bde54a2d6e93",
    "kombu.transport.virtual.base:Channel._get_message_priority": "07faea72a3d7",
    "kombu.transport.virtual.base:QoS._flush": "33e6483a6075",
    "kombu.transport.virtual.base:QoS.append": "b388f0cd6485",
    "kombu.transport.virtual.base:QoS.ack": "0714292b916f",
    "kombu.transport.virtual.base:QoS.can_consume_max_estimate": "936d3958266c",
    "kombu.transport.virtual.base:QoS.restore_unacked_once": "c81f3d0fb29b",
    "kombu.transport.virtual.base:Message.__init__": "c90d08ccfa2e",
    "kombu.transport.virtual.base:Transport.drain_events": "dc55900aa0d2",
    "kombu.transport:resolve_transport": "893e37413829",
    "kombu.utils.scheduling:round_robin_cycle": "99510a5cb38a",
    "celery.worker.loops:asynloop": "05a53e519988",
    "redis.connection:AbstractConnection.read_response": "695c89984330",
    "redis.connection:AbstractConnection.send_packed_command": "df64e6081006",
    "redis.connection:ConnectionPool.get_connection": "1616e950b340",
}


def digest(name: str) -> str:
    module, _, path = name.partition(":")
    found = importlib.import_module(module)
    for part in path.split("."):
        found = inspect.getattr_static(found, part)
    source = inspect.getsource(inspect.unwrap(found))  # type: ignore[arg-type]
    return hashlib.sha256(source.encode()).hexdigest()[:12]


@pytest.mark.parametrize("name", READ)
def test_what_the_transport_leans_on_is_what_was_read(name: str) -> None:
    try:
        found = digest(name)
    except (ImportError, AttributeError) as error:
        pytest.fail(f"{name} is gone ({error}); the transport leans on it")
    assert found == READ[name], (
        f"{name} has changed: the transport leans on it. Read it against tasks/transport, "
        f'then enter "{found}" here.'
    )
