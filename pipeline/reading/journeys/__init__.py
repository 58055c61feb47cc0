"""Journeys: which users did one thing after another. Funnels, retention with conditions, and
breakdowns of the archive."""
