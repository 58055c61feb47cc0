"""Routes of the stats API that count people."""
