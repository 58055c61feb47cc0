"""How much memory a process has, and how much more it may have in the end."""

from __future__ import annotations

from pathlib import Path

MAY_GROW_BYTES = 48 * 2**20
"""What memory may be had on top of what a warm server has: buffers of the allocator, and caches."""


def memory_bytes(pid: int) -> int:
    """The memory that a process has now."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) * 1024
