"""The formats in which the collector takes events, each parsed into ours. Pure."""
