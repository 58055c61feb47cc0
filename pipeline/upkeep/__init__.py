"""Upkeep: what audits, rebuilds, prunes, erases and watches."""
