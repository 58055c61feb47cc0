"""Runs a program as if this were Windows: without what Python has elsewhere only.

    like_windows.py PROGRAM ARGUMENT...

The libraries are imported first: what they do on Windows is theirs, and needs Windows.
"""

from __future__ import annotations

import importlib
import os
import runpy
import signal
import sys

LIBRARIES = (
    "asyncio multiprocessing.util celery.app.amqp celery.app.task celery.canvas celery.result "
    "celery.signals kombu.transport.redis redis.sentinel"
)
MODULES = "fcntl grp posix pty pwd resource syslog termios tty"
OF_OS = (
    "fork forkpty register_at_fork geteuid getuid getegid getgid setsid killpg fchmod fchown chown "
    "pread pwrite sync mkfifo uname O_CLOEXEC O_NOFOLLOW O_NONBLOCK O_DIRECTORY"
)
OF_SIGNAL = (
    "SIGHUP SIGKILL SIGQUIT SIGUSR1 SIGUSR2 SIGCHLD SIGALRM SIGPIPE SIGSTOP SIGCONT pause alarm"
)

for name in LIBRARIES.split():
    importlib.import_module(name)
for name in MODULES.split():
    sys.modules[name] = None  # type: ignore[assignment]
for module, names in ((os, OF_OS), (signal, OF_SIGNAL)):
    for name in names.split():
        delattr(module, name)
sys.platform = "win32"

_, *sys.argv = sys.argv
runpy.run_path(sys.argv[0], run_name="__main__")
