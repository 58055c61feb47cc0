"""The Celery app for `celery -A pipeline.cli.workers`: that of `celery -A tasks`, whatever other
package is called `tasks`."""

from __future__ import annotations

from pipeline.system.rooms import use_rooms

use_rooms()

from tasks import app  # noqa: E402 - found where the line above says

__all__ = ["app"]
