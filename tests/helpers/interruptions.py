"""Parts of the pipeline in which something happens between two steps: the end of the process, or
what the test has in mind."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from pipeline.reading.exact import Unstored, UnstoredCounts


class Crash(BaseException):
    """The process ends here: nothing catches it, as nothing catches SIGKILL."""


class Crashing:
    """Ends the process when it reaches `step` for the time `times`. Goes before the part of the
    pipeline that it is mixed into."""

    step = ""
    times = 1

    def reached(self, step: str) -> None:
        if step == self.step:
            self.times -= 1
            if self.times == 0:
                raise Crash(step)


class InterruptedReader(UnstoredCounts):
    """`then` happens once, after a read has asked Redis and before it asks Postgres."""

    then: Callable[[], object]
    asked = 0

    def read(self, counters: Sequence[str], after: Mapping[str, str] | None = None) -> Unstored:
        found = super().read(counters, after)
        self.asked += 1
        if self.asked == 1:
            self.then()
        return found
