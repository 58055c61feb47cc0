"""Letting go of event types: their rows in the books, and all that was counted of junk ones."""
