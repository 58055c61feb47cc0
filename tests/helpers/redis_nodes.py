"""Redis servers with a configuration of the test's own, and a Sentinel over them; on loopback."""

from __future__ import annotations

import secrets
import signal
import socket
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import redis

from tests.helpers.support import eventually

MASTER_NAME = "main"
_USER, _WATCHER, _READER = "app", "watcher", "reader"
_RIGHTS = "-@all +@connection +sentinel|masters"  # as redis-rights.md has them
KEEPS_EVERYTHING = {"appendonly": "yes", "appendfsync": "always", "save": '""'}


def free_port() -> int:
    """A port on which no program listens and which no connection will take: the system gives those
    from 32,768 on to clients, and our private servers begin at 20,000."""
    while True:
        port = 10_000 + secrets.randbelow(10_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("", port))
            return port


def has_ipv6() -> bool:
    """Whether this machine has an IPv6 loopback."""
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


class Node:
    """One server process, Redis or Sentinel. `kill` it and `start` it again: its files stay."""

    def __init__(
        self, binary: Path, directory: Path, configuration: Mapping[str, str], *options: str
    ) -> None:
        """`{port}` in a value is replaced by the port."""
        directory.mkdir()
        self.port = free_port()
        self._log = directory / "server.log"
        lines = {"port": "{port}", "bind": "127.0.0.1", "dir": f"{directory}", **configuration}
        text = "".join(f"{name} {value}\n" for name, value in lines.items())
        file = directory / "server.conf"
        file.write_text(text.replace("{port}", f"{self.port}"))
        self._command = [binary, file, *options]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start and wait until it accepts connections."""
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
            )
        eventually(self._listens, 20, f"no server; see {self._log}")

    def _listens(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self._log.read_text()
        try:
            socket.create_connection(("127.0.0.1", self.port)).close()
        except ConnectionRefusedError:
            return False
        return True

    def kill(self) -> None:
        """SIGKILL it, if it runs."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None


class Replicated:
    """A master, its replica, and a Sentinel that watches them. The Sentinel has a user and a
    password other than those of the servers, and listens on IPv6 where the machine has that."""

    def __init__(self, binary: Path, directory: Path) -> None:
        self._password, self._of_sentinel = secrets.token_hex(8), secrets.token_hex(8)
        self.nodes = [self._redis(binary, directory / "first")]
        master = f"127.0.0.1 {self.nodes[0].port}"
        self.nodes.append(self._redis(binary, directory / "second", replicaof=master))
        lines = {
            f"sentinel monitor {MASTER_NAME}": f"{master} 1",
            f"sentinel auth-user {MASTER_NAME}": _USER,
            f"sentinel auth-pass {MASTER_NAME}": self._password,
            f"sentinel down-after-milliseconds {MASTER_NAME}": "2000",
            f"sentinel failover-timeout {MASTER_NAME}": "3000",
            "bind": "127.0.0.1 -::1",  # one that may be missing
            "user default": "off",
            f"user {_WATCHER}": f"on >{self._of_sentinel} ~* &* +@all",
            f"user {_READER}": f"on >{self._of_sentinel} {_RIGHTS}",
        }
        self.sentinel = Node(binary, directory / "sentinel", lines, "--sentinel")
        # The first of the addresses is one of a Sentinel that is down.
        host = "[::1]" if has_ipv6() else "127.0.0.1"
        self.url = (
            f"sentinel://{_USER}:{self._password}@127.0.0.1:{free_port()};"
            f"sentinel://{_USER}:{self._password}@{host}:{self.sentinel.port}/0"
            f"?master_name={MASTER_NAME}"
            f"&sentinel_username={_READER}&sentinel_password={self._of_sentinel}"
        )

    def _redis(self, binary: Path, directory: Path, **options: str) -> Node:
        lines = {
            **KEEPS_EVERYTHING,
            "user default": "off",
            f"user {_USER}": f"on >{self._password} ~* &* +@all",
            "masteruser": _USER,
            "masterauth": self._password,
            "repl-diskless-sync-delay": "0",
            "repl-ping-replica-period": "1",
        }
        return Node(binary, directory, lines | options)

    def start(self) -> None:
        """Start all, and wait until the Sentinel knows the replica."""
        for node in (*self.nodes, self.sentinel):
            node.start()
        with self._sentinel_client() as client:  # ten seconds and two, by default
            client.execute_command("SENTINEL", "DEBUG", "info-period", 200, "publish-period", 200)
        self.wait_until_replicated()

    def end(self) -> None:
        """Kill all that run."""
        for node in (*self.nodes, self.sentinel):
            node.kill()

    def master(self) -> Node:
        """The node that the Sentinel says is the master."""
        with self._sentinel_client() as client:
            _, port = client.sentinel_get_master_addr_by_name(MASTER_NAME)
        return next(node for node in self.nodes if node.port == int(port))

    def client(self, node: Node) -> redis.Redis:
        """A client of one of the nodes."""
        return redis.Redis(port=node.port, username=_USER, password=self._password)

    def _sentinel_client(self) -> redis.Redis:
        return redis.Redis(
            port=self.sentinel.port,
            username=_WATCHER,
            password=self._of_sentinel,
            decode_responses=True,
        )

    def wait_until_replicated(self) -> None:
        """Wait until the replica has all that the master has and the Sentinel would promote it."""
        eventually(self._is_replicated, 30, "the replica did not catch up")

    def _is_replicated(self) -> bool:
        with self._sentinel_client() as sentinel:
            known = sentinel.sentinel_slaves(MASTER_NAME)
        with self.client(self.master()) as client:
            state = client.info("replication")
        replica = state.get("slave0", {})
        return (
            len(known) == 1
            and known[0]["flags"] == "slave"
            and known[0]["master-link-status"] == "ok"
            and replica.get("offset") == state["master_repl_offset"]
        )

    def fail_over(self) -> None:
        """Let the replica become the master and the master its replica.

        Sentinel lets both be masters for a while. What is written to the old one then is lost, so
        nothing may be sent meanwhile.
        """
        before = self.master()
        self.wait_until_replicated()
        with self._sentinel_client() as sentinel:
            sentinel.sentinel_failover(MASTER_NAME)
        with self.client(before) as client:
            eventually(lambda: client.info("replication")["role"] == "slave", 30, "no failover")
        assert self.master() is not before
