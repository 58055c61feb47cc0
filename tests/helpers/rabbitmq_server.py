"""A private RabbitMQ for tests: a directory, a node, ports and a port mapper of its own, all on
loopback. What is installed as a service is not touched."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
from pathlib import Path

import pytest
from kombu import Connection

from tests.helpers.support import eventually, start_group

# Not the commands on the PATH: Debian's change to the user of the service.
_DEBIAN = Path("/usr/lib/rabbitmq/bin")
_STARTED_WITHIN_S = 90


def need_rabbitmq() -> Path:
    """The directory of RabbitMQ's programs. Where there is none, skips; where CI is set, fails."""
    if (_DEBIAN / "rabbitmq-server").exists():
        return _DEBIAN
    found = shutil.which("rabbitmq-server")
    if found is None:
        without = pytest.fail if os.environ.get("CI") else pytest.skip
        without("RabbitMQ is not installed (on Debian: apt-get install rabbitmq-server)")
    return Path(found).parent


def _free_ports(number: int) -> list[int]:
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


class RabbitMQ:
    """One server. `kill` it and `start` it again: its directory and port stay."""

    def __init__(self, programs: Path, directory: Path) -> None:
        self._programs = programs
        self._directory = directory
        port, distribution_port, epmd_port = _free_ports(3)
        self._port = port
        password = secrets.token_hex(8)
        self.url = f"amqp://tests:{password}@127.0.0.1:{port}//"
        (directory / "rabbitmq.conf").write_text(
            f"listeners.tcp.1 = 127.0.0.1:{port}\ndefault_user = tests\ndefault_pass = {password}\n"
        )
        (directory / "plugins").write_text("[].\n")
        self._environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(directory),  # of the cookie
            "ERL_EPMD_PORT": str(epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": "tests@localhost",
            "RABBITMQ_DIST_PORT": str(distribution_port),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_CONFIG_FILE": str(directory / "rabbitmq.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(directory / "plugins"),
            "RABBITMQ_MNESIA_BASE": str(directory / "mnesia"),
            "RABBITMQ_LOG_BASE": str(directory / "log"),
            "RABBITMQ_PID_FILE": str(directory / "pid"),
            # Without a shell around it: the process started is the server.
            "RABBITMQ_ALLOW_INPUT": "1",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-noinput +S 2:2 "
            "-kernel inet_dist_use_interface {127,0,0,1}",
        }
        # RabbitMQ would start one that outlives it.
        self._epmd = self._run("epmd", "-port", str(epmd_port), "-address", "127.0.0.1")
        self._server: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start, and wait until it takes connections."""
        server = self._server = self._run(str(self._programs / "rabbitmq-server"))
        log = self._directory / "output.log"

        def answers() -> bool:
            assert server.poll() is None, f"RabbitMQ ended:\n{log.read_text(errors='replace')}"
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", self._port)) == 0

        eventually(answers, _STARTED_WITHIN_S, "RabbitMQ takes no connection")

    def remember_queues(self) -> None:
        """Bring to disk which queues there are, as RabbitMQ does every three minutes.

        RabbitMQ 3.10 does not find a quorum queue again that was declared since, when it is killed.
        """
        self.control("eval", "[ok = dets:sync(Table) || Table <- dets:all()].")

    def kill(self) -> None:
        """SIGKILL the server."""
        if self._server is not None:
            os.killpg(self._server.pid, signal.SIGKILL)
            self._server.wait()
            self._server = None

    def close(self) -> None:
        """End everything that was started here; the data is worth nothing."""
        self.kill()
        self._epmd.kill()
        self._epmd.wait()

    def control(self, *arguments: str) -> str:
        """What `rabbitmqctl` prints."""
        command = [str(self._programs / "rabbitmqctl"), "--quiet", *arguments]
        done = subprocess.run(
            command, env=self._environment, capture_output=True, text=True, check=True, timeout=60
        )
        return done.stdout

    def forget(self, *queues: str) -> None:
        """Delete these queues with what is in them."""
        with Connection(self.url) as connection:
            for queue in queues:
                connection.default_channel.queue_delete(queue)

    def _run(self, *command: str) -> subprocess.Popen[bytes]:
        # Ends with us, also when we are killed.
        with (self._directory / "output.log").open("ab") as output:
            with_us = ["setpriv", "--pdeathsig", "KILL", *command]
            return start_group(with_us, output, self._environment, self._directory)
