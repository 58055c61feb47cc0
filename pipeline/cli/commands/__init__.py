"""The commands of `analytics`, a module a group."""
