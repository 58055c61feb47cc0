"""An event: its fields, its rules, and the pseudonyms that may stand for its user."""
