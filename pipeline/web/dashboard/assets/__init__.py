"""The files that browsers load once: style, scripts, and htmx."""
