"""Messages on their way from the queue to their count: unacknowledged, or delayed until they are
due. At no instant does one exist only in the memory of a process."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence

import redis

from pipeline.contract import PRIORITY_SUFFIXES
from pipeline.redis.keys import Keys
from pipeline.redis.scripts import Call, Script

Fetched = tuple[str, bytes]
"""A message as it was taken: its delivery tag and its text."""

MAX_MESSAGES = 500
MAX_BYTES = 4 * 1024 * 1024
"""The most that one run of a script takes: Redis is held for a few milliseconds."""
_PAGES = 20
"""A sweep gives back at most so many times MAX_MESSAGES; the next one goes on."""

_FETCH = Script("pipeline.intake.fetch")
_POSTPONE = Script("pipeline.intake.postpone")
_RESTORE = Script("pipeline.intake.restore")


class Fetch:
    """A fetch that is sent: Redis works on it while its caller does something else. One of `answer`
    and `drop` must follow."""

    def __init__(
        self,
        client: redis.Redis,
        keys: Keys,
        queues: Sequence[str],
        most: int = MAX_MESSAGES,
        mark: str = "",
    ) -> None:
        named = [(queue + suffix, queue) for suffix in PRIORITY_SUFFIXES for queue in queues]
        self._call: Call = _FETCH.begin(
            client,
            keys=[keys.unacked, keys.unacked_index, keys.totals, *(name for name, _ in named)],
            args=[most, MAX_BYTES, mark, *(json.dumps(queue) for _, queue in named)],
        )

    def answer(self) -> list[Fetched]:
        """The messages, those of the highest priority first. Raises redis.RedisError: what a lost
        answer held returns by `give_back_lost`, else after the visibility timeout."""
        found = self._call.answer()
        return list(zip(map(bytes.decode, found[::2]), found[1::2], strict=True))

    def drop(self) -> None:
        """Wait for no answer."""
        self._call.drop()


class Unacknowledged:
    """The messages that event workers hold, of one Redis under one prefix. Holds no state but the
    client. Every method may be repeated, and raises redis.RedisError when Redis is away."""

    def __init__(self, client: redis.Redis, keys: Keys) -> None:
        self._client, self._keys = client, keys

    def give_back(self, tags: Sequence[str]) -> None:
        """Put messages back into their queues, the first of them to be consumed next."""
        for page in reversed(list(_pages(tags))):
            while page:
                page = page[self._restore("tags", *page)[0] :]

    def give_back_older(self, than_s: float) -> int:
        """Put back what any worker fetched so long ago; returns how many messages."""
        restored = 0
        for _ in range(_PAGES):
            dealt, n, _ = self._restore("older", than_s, MAX_MESSAGES)
            restored += n
            if not dealt:
                break
        return restored

    def give_back_lost(self, mark: str, held: Collection[str]) -> int:
        """Put back what fetches with this mark took and is not `held`: what their lost answers had;
        returns how many messages."""
        index, match = self._keys.unacked_index, f"*~{mark}*"
        found = self._client.zscan_iter(index, match, count=MAX_MESSAGES)
        lost = {tag.decode() for tag, _ in found}.difference(held)
        self.give_back(sorted(lost, key=_when_fetched))
        return len(lost)

    def postpone(self, when: Sequence[tuple[str, float]]) -> set[str]:
        """Set messages aside, each given by its tag, until they are due (Unix seconds); returns the
        tags of those that are due already, by Redis's clock."""
        due: set[str] = set()
        for first in range(0, len(when), MAX_MESSAGES):
            args = [part for one in when[first : first + MAX_MESSAGES] for part in one]
            keys = self._keys
            names = [keys.unacked, keys.unacked_index, keys.delayed, keys.totals]
            due |= {tag.decode() for tag in _POSTPONE.run(self._client, keys=names, args=args)}
        return due

    def queue_due(self) -> float | None:
        """Put messages that are due into their queues, each into the list of its priority; returns
        the seconds until the next is due, None when none is delayed."""
        for _ in range(_PAGES):
            dealt, _, next_s = self._restore("due", "", MAX_MESSAGES)
            if not dealt:
                break
        return float(next_s) if next_s else None

    def purge_delayed(self) -> int:
        """Remove all messages that are not due; returns how many."""
        return self._restore("purge")[0]

    def _restore(self, mode: str, *args: object) -> tuple[int, int, bytes]:
        keys = self._keys
        names = [keys.unacked, keys.unacked_index, keys.dead, keys.delayed, keys.totals]
        dealt, restored, next_s = _RESTORE.run(
            self._client, keys=names, args=[MAX_BYTES, mode, *args]
        )
        return dealt, restored, next_s


def _when_fetched(tag: str) -> tuple[int, int]:
    """Number of the fetch, and place in it."""
    fetch, _, place = tag.rpartition("~")[2].rpartition("-")[2].partition(".")
    return int(fetch), int(place)


def _pages(tags: Sequence[str]) -> Iterator[Sequence[str]]:
    return (tags[first : first + MAX_MESSAGES] for first in range(0, len(tags), MAX_MESSAGES))
