"""Celery apps that take their options from this package's settings and from nothing else.

Stock Celery lets variables of the environment win over the options of every app in the process:
`CELERY_BROKER_URL` and its like, `CELERY_CONFIG_MODULE` and `CELERY_LOADER`. They are meant for the
application's own Celery; our events would go to its broker and never be counted.
"""

from __future__ import annotations

from operator import methodcaller
from typing import Any, ClassVar

from celery import Celery
from celery.app.utils import Settings
from celery.loaders.base import BaseLoader


class OwnLoader(BaseLoader):  # type: ignore[misc]
    """Reads no configuration module: an app's own defaults are all it has."""

    read_configuration: ClassVar[Any] = staticmethod(dict)


class OwnSettings(Settings):  # type: ignore[misc]
    """Celery's options without those of the environment."""

    broker_url = property(methodcaller("first", "broker_url"))
    broker_read_url = broker_write_url = broker_url
    result_backend = property(methodcaller("first", "result_backend"))


class OwnCelery(Celery):  # type: ignore[misc]
    """A Celery app that the environment cannot point elsewhere; never the current app."""

    def __init__(self, main: str, **options: Any) -> None:
        # No fix-ups: Django's takes a loader to be a name, makes the first app of a process the
        # default of all its threads, which is for the application's, and changes `sys.path`.
        super().__init__(main, set_as_current=False, loader=OwnLoader, fixups=[], **options)
        # Celery has made the object, and fills it when it is first read; setting an attribute of it
        # would set an option.
        object.__setattr__(self.conf, "__class__", OwnSettings)
