"""The port and password of each private server, which every restart keeps."""

from __future__ import annotations

import json
import random
import secrets
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

from pipeline.errors import EmbeddedServerFailed
from pipeline.system.ports import is_port_free
from pipeline.system.private_files import write_private

FILE = "credentials.json"
# Below the range from which systems take the ports of outgoing connections: a client that keeps
# trying to reach a stopped server on a port of that range can end up connected to itself, and then
# holds the port against the server.
_PORTS = range(20_000, 32_000)
_TRIES = 200
_PORT_LIMIT_S = 2.0
_POLL_S = 0.02


@dataclass(frozen=True)
class Credentials:
    """Where on 127.0.0.1 a private server listens, and its password, as it is in a URL."""

    port: int
    password: str = field(repr=False)


def load(data_dir: Path, name: str) -> Credentials:
    """The credentials of the server called `name`, made and stored when there are none.

    The password never changes. The port does only when another program listens on it. Raises
    EmbeddedServerFailed when the file is damaged or no port is free.
    """
    stored = _read(data_dir / FILE)
    kept = stored.get(name)
    if kept is not None and wait_until_free(kept.port):
        return kept
    others = {credentials.port for credentials in stored.values()}
    stored[name] = Credentials(
        port=_choose_port(others), password=kept.password if kept else secrets.token_urlsafe(24)
    )
    text = json.dumps({name: asdict(credentials) for name, credentials in stored.items()}, indent=2)
    write_private(data_dir / FILE, text + "\n")
    return stored[name]


def wait_until_free(port: int) -> bool:
    """Whether `port` of 127.0.0.1 is free, at once or when a server that is just ending left it."""
    deadline = time.monotonic() + _PORT_LIMIT_S
    while not is_port_free(port):
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_S)
    return True


def _choose_port(taken: set[int]) -> int:
    for _ in range(_TRIES):
        port = random.choice(_PORTS)
        if port not in taken and is_port_free(port):
            return port
    raise EmbeddedServerFailed(
        f"no free port found on 127.0.0.1 between {_PORTS[0]} and {_PORTS[-1]} in {_TRIES} tries: "
        "end programs that listen there"
    )


def _read(path: Path) -> dict[str, Credentials]:
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        return {
            name: Credentials(int(entry["port"]), str(entry["password"]))
            for name, entry in fields.items()
        }
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise EmbeddedServerFailed(
            f"{path} cannot be used ({error}): it holds the password of the private Postgres; "
            "restore it from a backup"
        ) from error
