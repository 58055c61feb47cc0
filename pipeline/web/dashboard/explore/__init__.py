"""Raw events, by type, user, range and conditions."""
