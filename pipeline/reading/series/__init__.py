"""Series of counts: the points of any time zone, and what was counted at each."""
