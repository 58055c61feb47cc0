"""What the collector adds to events of visitors: properties of page views, and sessions."""
