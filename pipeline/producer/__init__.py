"""What an application imports: `track_event`, `Tracker`, and how events reach the broker."""
