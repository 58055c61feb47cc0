"""Commands for the care of an installation: a checkup, backups."""
