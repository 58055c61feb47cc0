"""Whatever of kombu the transport names is held: the functions by `test_kombu_internals.py`, with
their texts, and the rest here, by name. What is new in the transport has to be entered."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest
from kombu.transport import redis, virtual

from tests.unit.transport.test_kombu_internals import READ

ROOT = Path(__file__).parents[3]
LEAN_ON_KOMBU = ("transport.py", "unacknowledged.py", "full_redis.py")
OWNERS: tuple[type, ...] = (
    redis.Channel,
    redis.QoS,
    redis.MultiChannelPoller,
    redis.SentinelChannel,
    redis.Transport,
    virtual.Message,
)
NO_FUNCTIONS = {
    redis.Channel: {
        "Message",
        "QoS",
        "_brpop_sent_at",
        "_in_poll",
        "_refresh_binding",
        "active_queues",
        "client",
        "from_transport_options",
        "keyprefix_binding_permanent",
        "keyprefix_queue",
        "priority_steps",
        "qos",
        "sep",
        "unacked_index_key",
        "unacked_key",
        "visibility_timeout",
    },
    redis.QoS: {"_delivered", "_dirty"},
    redis.Transport: {"Channel", "connection_errors", "cycle"},
}
"""Attributes, properties and the like, by the class that has them."""
SET_BY_KOMBU = {
    "_expires": redis.Channel.__init__,
    "_queue_cycle": redis.Channel.__init__,
    "_tag_to_queue": virtual.Channel.basic_consume,
    "_vrestore_count": redis.QoS.restore_visible,
}
"""Attributes that only an object has, by the function that names them."""
OF_EVERYTHING = {"__dict__", "add", "channel", "decode", "delivery_tag", "discard", "get"}
"""Names that dicts, sets, texts or our own objects have too."""


def names_in(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.FunctionDef):
            yield node.name


@pytest.mark.parametrize(
    ("owner", "name"),
    [(owner, name) for owner, names in NO_FUNCTIONS.items() for name in sorted(names)],
    ids=lambda one: one if isinstance(one, str) else one.__name__,
)
def test_what_the_transport_names_is_there(owner: type, name: str) -> None:
    assert hasattr(owner, name), (
        f"kombu's {owner.__name__}.{name} is gone; the transport leans on it"
    )


@pytest.mark.parametrize("name", SET_BY_KOMBU)
def test_what_the_transport_finds_in_an_object_is_set_there(name: str) -> None:
    function = SET_BY_KOMBU[name]
    assert f"self.{name}" in inspect.getsource(function), (
        f"kombu's {function.__qualname__} no longer has {name}; the transport leans on it"
    )


@pytest.mark.parametrize("module", LEAN_ON_KOMBU)
def test_all_that_a_module_names_of_kombu_is_held(module: str) -> None:
    functions = {name.rpartition(".")[2] for name in READ}
    whole_classes = vars(redis.MultiChannelPoller)
    held = functions.union(whole_classes, OF_EVERYTHING, *NO_FUNCTIONS.values())
    named = {
        name
        for name in names_in(ROOT / "tasks" / "transport" / module)
        if any(hasattr(owner, name) for owner in OWNERS)
    }
    assert named <= held, f"enter in READ or in NO_FUNCTIONS: {sorted(named - held)}"
