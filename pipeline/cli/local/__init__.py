"""Everything on one machine: servers and processes, kept running."""
