"""Whether the application's Celery app runs tasks where they are called (`task_always_eager`).

Every publish asks, and Celery takes as long to read an option as all else around a publish does: it
catches an error for every name and every place that does not have it. Here the same places are
searched for the same names in the same order, without errors. Versions before 5.7 search in another
order, so they are asked themselves.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from celery.app import app_or_default
from celery.app.utils import Settings

_OPTION = "task_always_eager"
_SEARCHES_BY_PLACE = Settings({}, [{"x": True}, {"a_x": False}], prefix="a_")["x"]


def is_eager() -> Any:
    """The option of the current app, which may change at any time."""
    app = app_or_default()
    conf = app.conf
    if _SEARCHES_BY_PLACE and app.configured and isinstance(conf, Settings):
        names = _names(conf.prefix, conf._keys)
        for options in conf.maps:
            for name in names:
                if name in options:
                    return options[name]
    return conf.task_always_eager  # which has Celery read the configuration first


@cache
def _names(prefix: str | None, converters: tuple[Callable[[str], str], ...]) -> tuple[str, ...]:
    """The names that the option may have in a configuration, that of the first choice first."""
    return tuple(dict.fromkeys(Settings({}, keys=converters, prefix=prefix)._to_keys(_OPTION)))
