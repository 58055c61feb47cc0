"""Redis: clients, the names of all keys, and how a script is called."""
