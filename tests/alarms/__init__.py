"""How soon alarms come at the default settings, and how soon they go: `make alarms`."""
