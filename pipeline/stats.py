"""The public door to the reading room: `Stats` answers every question about counts.

Applications and tools import from here; the protocol behind it is in `pipeline.reading`.
"""

from pipeline.reading.stats import Ranking, Stats

__all__ = ["Ranking", "Stats"]
