"""What is done around a fork, where there are forks: Windows has none."""

from __future__ import annotations

import os
from collections.abc import Callable


def at_fork(**hooks: Callable[[], object]) -> None:
    """Have these called: `before`, `after_in_parent`, `after_in_child`."""
    register = getattr(os, "register_at_fork", None)
    if register is not None:
        register(**hooks)
