"""A parent that has modules imported and forks a process whenever it is asked to.

    python -m tests.helpers.forking.parent SOCKET MODULE...

To start Python and import Celery and the tasks takes a second of work, to fork them a hundredth. An
order is JSON that comes with the three standard files; the child belongs to the process that
gave the order, whose number it answers. The parent ends with the other end of the socket.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import runpy
import socket
import sys
import time
from collections.abc import Sequence
from typing import Any

from tests.helpers.forking.orders import MAX_BYTES


def main() -> None:
    orders = socket.socket(fileno=int(sys.argv[1]))
    for module in sys.argv[2:]:
        importlib.import_module(module)
    gc.collect()
    gc.freeze()
    while True:
        order, files, _, _ = socket.recv_fds(orders, MAX_BYTES, 3)
        if not order:
            return
        between = os.fork()
        if between == 0:
            if os.fork():
                os._exit(0)
            _become(json.loads(order), files, orders)
            return
        os.waitpid(between, 0)
        for file in files:
            os.close(file)


def _become(order: dict[str, Any], files: Sequence[int], orders: socket.socket) -> None:
    """Be what `python -m MODULE ARGUMENTS…` is, started by who gave the order, to its end."""
    os.setsid()
    while os.getppid() != order["parent"]:
        time.sleep(0.000_5)  # until the process between has ended
    for stream, file in enumerate(files):
        os.dup2(file, stream)
        os.close(file)
    os.chdir(order["cwd"])
    os.environ.clear()
    os.environ.update(order["environment"])
    orders.send(f"{os.getpid()}".encode())
    orders.close()
    sys.argv = [order["module"], *order["arguments"]]
    runpy.run_module(order["module"], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
