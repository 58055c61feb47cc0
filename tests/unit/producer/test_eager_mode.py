"""`is_eager` says what Celery says, wherever the option is and whenever it is changed."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery, current_app

from pipeline.producer.eager_mode import is_eager


@pytest.fixture
def app() -> Iterator[Celery]:
    before = current_app._get_current_object()
    app = Celery("theirs")
    app.set_current()
    yield app
    app.close()
    before.set_current()


def test_without_the_option_nothing_is_eager(app: Celery) -> None:
    assert not app.configured
    assert is_eager() is False
    assert app.configured
    assert is_eager() is False


@pytest.mark.parametrize("value", [True, False, 1, 0, None, "yes"])
@pytest.mark.parametrize("used_before", [False, True])
def test_the_option_is_read_as_it_is_now(app: Celery, value: Any, used_before: bool) -> None:
    if used_before:
        assert not is_eager()
    app.conf.task_always_eager = value
    assert is_eager() == app.conf.task_always_eager == value
    app.conf.update(task_always_eager=not value)
    assert is_eager() == app.conf.task_always_eager == (not value)


@pytest.mark.parametrize(
    ("source", "namespace"),
    [
        ({"task_always_eager": True}, None),
        ({"CELERY_ALWAYS_EAGER": True}, None),
        ({"CELERY_TASK_ALWAYS_EAGER": True, "task_always_eager": False}, "CELERY"),
        ({"theirs_task_always_eager": True}, "theirs"),
        (SimpleNamespace(task_always_eager=True), None),
        (SimpleNamespace(CELERY_TASK_ALWAYS_EAGER=True), "CELERY"),
    ],
)
def test_a_configuration_may_have_it_under_another_name(
    app: Celery, source: Any, namespace: str | None
) -> None:
    app.config_from_object(source, namespace=namespace)
    assert is_eager() is app.conf.task_always_eager is True
    app.conf.task_always_eager = False
    assert is_eager() is app.conf.task_always_eager is False


def test_defaults_added_later_are_read(app: Celery) -> None:
    assert not is_eager()
    app.add_defaults({"task_always_eager": True})
    assert is_eager() is app.conf.task_always_eager is True


def test_a_configuration_that_is_not_celerys_is_read_as_it_is(app: Celery) -> None:
    assert not is_eager()
    app.conf = SimpleNamespace(task_always_eager=True)
    assert is_eager() is True


def test_the_app_asked_is_the_current_one(app: Celery) -> None:
    app.conf.task_always_eager = True
    assert is_eager()
    other = Celery("other")
    other.set_current()
    assert not is_eager()
    app.set_current()
    assert is_eager()
    other.close()
