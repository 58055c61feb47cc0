"""Flower with a lock on every door: on loopback unless told otherwise, and never without a login.

Flower's own defaults are every address and no password, and its `/metrics` asks for no login even
where one is set. `install` puts our rules into `celery -A tasks flower` and `analytics flower`.
"""

from tasks.guarded_flower.application import install

__all__ = ["install"]
