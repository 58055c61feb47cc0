"""Closed days, sealed: what is made of their rows once, and is right until one of them changes."""
