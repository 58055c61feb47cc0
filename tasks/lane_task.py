"""Tasks of which one run is under way, and one more wanted at most: see `pipeline.lanes`.

A request with options that ask for more than a run (arguments, a time, callbacks) goes its own way,
as with any Celery task.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import redis
from kombu.exceptions import OperationalError

from config.schedule import intervals_s, tick_s
from pipeline.contract import PRIORITY_SUFFIXES
from pipeline.errors import InvalidConfiguration, RedisWentBack
from pipeline.lanes.due import Due
from pipeline.lanes.lanes import LANE_S, NO_NUMBER, Lanes, Run
from pipeline.lanes.ticks import note_tick
from pipeline.measures import RUN_S
from pipeline.server_errors import Fault, diagnose, walk_causes
from pipeline.traces.spans import ROWS, span
from tasks.app import app, broker_url, counters, settings
from tasks.worker.checked_task import CheckedTask

_NUMBER_HEADER = "analytics_request"
_SENDING_OPTIONS = {"producer", "connection", "retry", "retry_policy", "confirm_timeout", "headers"}
"""Options that say how a message is sent, and nothing about its task; headers are seen to."""
_BEATS_HEADERS = {"celery_beat_task"}
_EXTEND_EVERY_S = LANE_S / 3
_LONGEST_S = 900.0
"""After so long another run may begin beside: a server that stands still must not hold all."""
_CONFIRM_TIMEOUT_S = 5.0

logger = logging.getLogger(__name__)


def lanes() -> Lanes:
    """The lanes of this installation."""
    return Lanes(counters().client, counters().keys)


class LaneTask(CheckedTask):
    """A task without arguments, for which a run from now on is all that a request asks for."""

    abstract = True

    def apply_async(self, args: Any = None, kwargs: Any = None, *more: Any, **options: Any) -> Any:
        """Send a request, as any task's; a plain one that does as well as one on its way is not
        sent, and the id returned is that of no message."""
        is_plain = not (args or kwargs or more or set(options) - _SENDING_OPTIONS)
        is_plain &= set(options.get("headers") or ()) <= _BEATS_HEADERS
        if is_plain and options.get("headers") and not self.app.conf.task_always_eager:
            return self._send_for_beat(options)
        if not is_plain or self.app.conf.task_always_eager:
            return super().apply_async(args, kwargs, *more, **options)
        return self._send_unless_waiting(options)

    def send_wanted(self) -> None:
        """Send a request for what is wanted. One try, and not for long: RabbitMQ that is short of
        memory confirms nothing. Workers look again after some seconds."""
        options = {"retry": False, "confirm_timeout": _CONFIRM_TIMEOUT_S}
        try:
            self._send_unless_waiting(options, ask_again_s=0)
        except (redis.RedisError, OperationalError) as error:
            logger.warning("could not ask for %s, tried again soon: %s", self.name, error)

    def send_if_late(self) -> None:
        """Send a request in beat's stead, where it should have sent one a while ago. One try, as in
        `send_wanted`. Raises redis.RedisError."""
        number = lanes().ask_if_due(self.name, self._list(), Due.late(self._interval_s()))
        if number is not None:
            logger.info("%s is overdue, and asked for here", self.name)
            self._send_numbered(number, {"retry": False, "confirm_timeout": _CONFIRM_TIMEOUT_S})

    def _send_for_beat(self, options: dict[str, Any]) -> Any:
        """What beat's tick does: note that beat lives, and send a request where a run is due."""
        interval_s = self._interval_s()
        try:
            note_tick(counters().client, counters().keys)
            due = Due.on_time(interval_s, tick_s(interval_s))
            number = lanes().ask_if_due(self.name, self._list(), due)
        except redis.RedisError as error:  # nothing can be flushed or archived either
            logger.warning("whether %s is due is asked again soon: %s", self.name, error)
            number = None
        if number is None:
            return self.AsyncResult(str(uuid4()))
        logger.info("%s is due, and asked for", self.name)
        return self._send_numbered(number, options)

    def _interval_s(self) -> float:
        return intervals_s(settings().flush_interval_s)[self.name]

    def _list(self) -> str | None:
        """The Redis list in which requests wait; None where RabbitMQ has them."""
        if broker_url():
            return None
        conf = self.app.conf
        return str(conf.task_routes.get(self.name, {}).get("queue", conf.task_default_queue))

    def _send_unless_waiting(self, options: dict[str, Any], **asking: float) -> Any:
        try:
            number = lanes().ask(self.name, self._list(), **asking)
        except redis.RedisError as error:
            logger.debug("%s is sent without a number: %s", self.name, error)
            return super().apply_async(**options)
        if number is None:
            return self.AsyncResult(str(uuid4()))
        return self._send_numbered(number, options)

    def _send_numbered(self, number: int, options: dict[str, Any]) -> Any:
        headers = {**(options.pop("headers", None) or {}), _NUMBER_HEADER: number}
        try:
            return super().apply_async(**options, headers=headers)
        except OperationalError as error:  # such as a full Redis; the request is noted
            logger.warning("%s is not sent, a flush worker sees to it: %s", self.name, error)
            return self.AsyncResult(str(uuid4()))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run in the task's lane; a request that another run serves is done at once, with the
        result None."""
        request = self.request
        if request.called_directly or request.is_eager or _wants_more(request):
            return self.run(*args, **kwargs)
        try:
            run = self._begin()
        except redis.RedisError:  # the task says what is wrong, if it still is
            return self.run(*args, **kwargs)
        return None if run is None else self._run_in_lane(run)

    def _begin(self) -> Run | None:
        request = self.request
        queue = (request.delivery_info or {}).get("routing_key")
        suffixes = PRIORITY_SUFFIXES if queue and not broker_url() else ()
        lists = [f"{queue}{suffix}" for suffix in suffixes]
        number = request.get(_NUMBER_HEADER)
        number = number if isinstance(number, int) else NO_NUMBER
        run = lanes().begin(self.name, request.id, number, lists)
        if run is None:
            logger.debug("%s: another run serves this request", self.name)
        elif run.joined:
            logger.info("%s: one run for %d more requests", self.name, run.joined)
        return run

    def _run_in_lane(self, run: Run) -> Any:
        is_done, is_away, began_s = False, False, time.monotonic()
        name = self.name.rpartition(".")[2]
        try:
            with _extended(run), span(name) as noted:
                found = self.run()
                if isinstance(found, int):
                    noted[ROWS] = found
            is_done = True
        except Exception as error:
            is_away = _is_about_server(error)
            raise
        finally:
            _end(run, is_done=is_done, is_away=is_away)
            outcome = "done" if is_done else "failed"
            RUN_S.note(time.monotonic() - began_s, name, outcome)
        return found

    def run_here(self) -> None:
        """Run in the task's lane without a message, unless another run is under way. What may be
        expected to fail (`throws`) is a line in the log. Raises redis.RedisError."""
        run = lanes().begin(self.name, str(uuid4()))
        if run is None:
            return
        try:
            self._run_in_lane(run)
        except self.throws as error:
            logger.warning("%s: %s", self.name, error)


def send_wanted() -> None:
    """Send requests for what is wanted while nothing runs in its lane. Raises redis.RedisError."""
    for task in lanes().find_overdue():
        app.tasks[task].send_wanted()


def _is_about_server(error: Exception) -> bool:
    """Whether a server is away, or cannot be used: there is an alarm for that."""
    for one in walk_causes(error):
        found = diagnose(one)
        if isinstance(one, InvalidConfiguration | RedisWentBack):
            return True
        if found is not None and found.fault is Fault.AWAY:
            return True
    return False


def _end(run: Run, *, is_done: bool, is_away: bool) -> None:
    try:
        wanted = lanes().end(run, is_done=is_done, is_away=is_away)
    except redis.RedisError as error:
        logger.warning("the lane of %s is free in some seconds: %s", run.task, error)
        return
    for task in wanted:
        app.tasks[task].send_wanted()


def _wants_more(request: Any) -> bool:
    calls = (request.args, request.kwargs, request.callbacks, request.errbacks)
    return any((*calls, request.chain, request.chord, request.group))


@contextmanager
def _extended(run: Run) -> Iterator[None]:
    """Extend the run's lane, from a thread, until the block ends."""
    is_over, until_s = threading.Event(), time.monotonic() + _LONGEST_S

    def extend() -> None:
        while not is_over.wait(_EXTEND_EVERY_S) and time.monotonic() < until_s:
            try:
                if not lanes().extend(run):
                    return
            except redis.RedisError as error:
                logger.debug("the lane of %s is not extended: %s", run.task, error)

    threading.Thread(target=extend, daemon=True).start()
    try:
        yield
    finally:
        is_over.set()
