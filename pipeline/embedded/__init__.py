"""Private Redis and Postgres servers as child processes, so that everything runs on one machine
with one command.

`PrivateServers.start(data_dir)` finds the binaries, makes what is missing and returns the URLs. In
reading order: `private_servers` (one directory, one owner), `server` (one child process), `redis`
and `postgres` (what to run), `locks`, `credentials`, `binaries`, `allocator`, and `privileges` (as
whom).
"""

from pipeline.embedded.private_servers import PrivateServers
from pipeline.embedded.server import Server

__all__ = ["PrivateServers", "Server"]
