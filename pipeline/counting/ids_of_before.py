"""Event ids that the version before remembered: by digests of the id alone, in sets of their own.

Ours are of source, event type and id. What the version before counted must be known after an
upgrade; and as long as one of its workers runs beside ours, it must know what ours count. So while
its sets are there, ids are looked up in them too. While its workers fill one (`share_ids.lua` makes
it for them), what we count is entered there as well, and among our own ids: that tells apart what
we entered, which is known by its source and type.

A set lives for one and a half deduplication windows; after that nothing here is called any more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipeline.redis.keys import Keys, digest_id

EXPECTED_FOR_S = 300.0
"""For how long a worker asks for sets of the version before after it has found one."""


class IdsOfBefore:
    """What one batch asks of the sets of the version before."""

    def __init__(self) -> None:
        self._asked: list[str] = []
        self._told_apart: set[str] = set()

    def ask(self, event_ids: Mapping[str, str], keys: Keys) -> list[tuple[str, list[str], str]]:
        """What the script is to find, and where to remember it, of these ids by digest."""
        self._asked = [digest for digest in event_ids if digest not in self._told_apart]
        alone = [digest_id(event_ids[digest]) for digest in self._asked]
        before = keys.seen_event_before
        return [(before, alone, before), (keys.seen_event, alone, before)]

    def find_seen(self, before: Sequence[int], ours: Sequence[int]) -> set[str]:
        """Digests of what the version before has counted: found in its sets and, unlike what we
        entered there, not in ours. Positions count from 1 in what was asked last."""
        self._told_apart.update(self._asked[position - 1] for position in ours)
        return {self._asked[position - 1] for position in set(before).difference(ours)}
