"""Access keys: who may send events over HTTP, and who may read counts."""
