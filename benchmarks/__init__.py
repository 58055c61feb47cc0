"""The pipeline beside its rivals, side by side in one run: `make bench`."""
