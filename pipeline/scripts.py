"""The Lua scripts in `lua/`: loaded by name, called by their SHA."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.resources import files

import redis
from redis.commands.core import Script


@cache
def source(name: str) -> bytes:
    """The text of `lua/{name}.lua`."""
    return files("pipeline.lua").joinpath(f"{name}.lua").read_bytes()


@cache
def sha1(name: str) -> str:
    """The name under which a server that has loaded `lua/{name}.lua` knows it."""
    return hashlib.sha1(source(name), usedforsecurity=False).hexdigest()


def script(client: redis.Redis, name: str) -> Script:
    """The script `lua/{name}.lua`; a server that does not know it yet is sent its text."""
    return client.register_script(source(name))
