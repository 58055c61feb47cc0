"""Events in an application's own workers: a task of the name of ours, which sends them on.

Celery sends what follows a task by name, through the task of that name if the worker has one. And a
client without a queue sends to Celery's default queue, where a worker without such a task discards
the event. So every worker that has loaded our tasks when it starts gets them: what they send goes
straight to our workers, by any broker, and what comes to them in a message is forwarded.
"""

from __future__ import annotations

import logging
import time
from typing import Any

from celery import Task, signals
from celery.exceptions import Reject
from kombu.exceptions import OperationalError

from pipeline.celery_app import OwnCelery
from pipeline.contract import PLAIN_USER_IDS
from pipeline.errors import InvalidConfiguration, PipelineError
from pipeline.producer.app import check_address
from pipeline.producer.settings import current_settings

_PAUSE_S = 1.0
"""Before a message that could not be forwarded goes back to its queue."""

logger = logging.getLogger(__name__)


class _ForwardingTask(Task):
    """Sends what it is given by a task of ours, `sends`."""

    abstract = True
    # Acknowledged when the event is on its way; what is then delivered again is known by its id.
    acks_late = True
    reject_on_worker_lost = True
    typing = False
    sends: Any

    def apply_async(self, args: Any = None, kwargs: Any = None, *more: Any, **options: Any) -> Any:
        """Send an event as our task does."""
        return self.sends.apply_async(args, kwargs, *more, **options)

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        """Forward the event of a message; send that of a direct call, as an errback is called."""
        request = self.request
        if request.called_directly or request.is_eager:
            self.sends.apply_async(args, kwargs)
            return
        headers = {PLAIN_USER_IDS: True} if request.get(PLAIN_USER_IDS) else {}
        try:
            self.sends.forward(args, kwargs, request.id, headers)
        except (OperationalError, PipelineError) as error:
            logger.warning("%s goes back to its queue, not forwarded: %s", self.name, error)
            time.sleep(_PAUSE_S)
            raise Reject("not forwarded", requeue=True) from error


def forward_in_workers(*tasks: Any) -> None:
    """Have every worker and beat of an application that starts in this process get these tasks."""

    def register(sender: Any, **_: Any) -> None:
        if not isinstance(sender.app, OwnCelery):
            _register(sender.app, tasks)

    signals.worker_init.connect(register, weak=False)
    signals.beat_init.connect(register, weak=False)


def _register(app: Any, tasks: tuple[Any, ...]) -> None:
    try:
        if current_settings().enabled:
            check_address()
    except InvalidConfiguration as error:
        logger.warning("this process of %s sends no events: %s", app.main, error)
        return
    for task in tasks:
        if task.name in app.tasks:  # one of the application's own
            continue
        app.task(
            _run,
            name=task.name,
            base=_ForwardingTask,
            bind=True,
            shared=False,
            lazy=False,
            sends=task,
        )


def _run(self: Any, *args: Any, **kwargs: Any) -> None:
    """Send an event to the workers that count it."""
    self(*args, **kwargs)
