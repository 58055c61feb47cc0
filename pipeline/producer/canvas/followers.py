"""What an application's canvas does after an event: callbacks, the rest of a chain, the part of a
chord.

A worker that counts an event sends its callbacks and the next of its chain afterwards. It knows
neither the application's routes nor its results, and no other broker. So the producer names the
queues; what such a worker cannot do, it does itself as soon as the event is accepted, which is when
an event is as good as counted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from celery import Signature, signature
from celery.app import app_or_default
from celery.app.task import Context

from pipeline.errors import NotFollowed
from pipeline.producer.app import app as our_app
from pipeline.producer.settings import current_settings

FOLLOWING = frozenset({"link", "link_error", "chain", "chord", "replaced_task_nesting"})
"""Options that say what comes after an event."""

_LOCAL = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class Followers:
    """What this process does when an event is accepted."""

    app: Any
    request: Context
    """Of the event's task, as the application's result backend is shown it."""
    links: list[Any]
    chain: list[Any]
    is_awaited: bool
    """Whether a chord, or who waits for a task that an event has replaced, is to learn that it is
    done."""

    def send(self) -> None:
        """Send the callbacks and the next of the chain, and complete the part of the chord. Raises
        `NotFollowed`."""
        try:
            self._send()
        except Exception as error:
            raise NotFollowed(
                f"what follows an event was not sent ({type(error).__name__}: {error}). The event "
                "is accepted and counts: do not send it again, but what follows it"
            ) from error

    def _send(self) -> None:
        common = {"parent_id": self.request.id, "root_id": self.request.root_id}
        for link in self.links:
            self._signature(link).apply_async((None,), **common)
        if self.chain:
            *rest, following = self.chain  # the next is the last
            self._signature(following).apply_async((None,), chain=rest or None, **common)
        if self.is_awaited:
            self.app.backend.mark_as_done(self.request.id, None, self.request)

    def _signature(self, given: Any) -> Signature:
        return given if isinstance(given, Signature) else signature(given, app=self.app)


def take_followers(options: dict[str, Any], task_id: str) -> Followers | None:
    """Take what this process does after the event out of its options; what a worker does stays,
    with the queues it goes to. Returns None where all of it stays."""
    links, errbacks = _listed(options.get("link")), _listed(options.get("link_error"))
    chain, chord = list(options.get("chain") or ()), options.pop("chord", None)
    is_awaited = chord is not None or bool(options.pop("replaced_task_nesting", 0))
    app = _app_of([*links, *chain, *([chord] if chord else []), *errbacks])
    if (links or chain or errbacks) and _reads_our_redis(app):
        for name, signatures in (("link", links), ("link_error", errbacks), ("chain", chain)):
            if signatures:
                options[name] = [name_queues(one, app) for one in signatures]
        links, chain = [], []
    else:
        for name in ("link", "link_error", "chain"):
            options.pop(name, None)
    if not (links or chain or is_awaited):
        return None
    request = Context(
        id=task_id,
        root_id=options.get("root_id") or task_id,
        group=options.get("group_id"),
        group_index=options.get("group_index"),
        chord=chord,
    )
    return Followers(app, request, links, chain, is_awaited)


def name_queues(given: Mapping[str, Any], app: Any) -> dict[str, Any]:
    """A copy of a signature, in which every task names the queue that the application's routes give
    it: a worker of ours does not know them."""
    copied = {**given, "kwargs": dict(given.get("kwargs") or {})}
    copied["options"] = dict(given.get("options") or {})
    parts = copied["kwargs"]
    match given.get("subtask_type"):
        case "group" | "chain":
            parts["tasks"] = [name_queues(one, app) for one in parts["tasks"]]
        case "chord":
            header, body = parts["header"], parts["body"]
            is_group = isinstance(header, Mapping)
            parts["header"] = (
                name_queues(header, app) if is_group else [name_queues(one, app) for one in header]
            )
            parts["body"] = body and name_queues(body, app)
        case _:
            if not copied["options"].keys() & {"queue", "exchange", "routing_key"}:
                queue = app.amqp.router.route({}, given["task"], given.get("args"), parts)["queue"]
                copied["options"]["queue"] = queue.name
    return copied


def _listed(given: Any) -> list[Any]:
    if given is None:
        return []
    return list(given) if isinstance(given, list | tuple | set) else [given]


def _app_of(signatures: list[Any]) -> Any:
    for one in signatures:
        if isinstance(one, Signature):
            return one.app
    return app_or_default()


def _reads_our_redis(app: Any) -> bool:
    """Whether our workers and those of the application reach each other's queues: in one Redis. (In
    RabbitMQ a queue must be declared as it was, which the others do not know.) Where one server has
    two names this says no, and the producer sends what could have been sent later."""
    if current_settings().broker_url is not None:
        return False
    if our_app.conf.broker_url is None:  # set up after the tasks were made
        our_app.conf.broker_url = current_settings().redis_address()
    if (app.conf.broker_transport_options or {}).get("global_keyprefix"):
        return False
    return _places(app) == _places(our_app)


def _places(app: Any) -> tuple[Any, ...]:
    connection = app.connection_for_write()
    info = connection.info()
    host = "localhost" if info["hostname"] in _LOCAL else info["hostname"]
    database = str(info["virtual_host"] or "").strip("/") or "0"
    return connection.transport.driver_type, host, info["port"], database, connection.alt[1:]
