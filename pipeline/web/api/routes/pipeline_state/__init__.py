"""Routes about the pipeline itself: its state, its workers, its dead letters."""
