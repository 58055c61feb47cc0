"""The attacks themselves, by what they misuse, and the table of all."""
