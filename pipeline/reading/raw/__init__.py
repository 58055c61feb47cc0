"""Raw events for people: pages of the archive within limits, and events as they come."""
