"""Journeys of users: funnels, and who comes back. Long ones are reports that a worker makes."""
