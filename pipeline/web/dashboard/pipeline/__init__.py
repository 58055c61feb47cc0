"""The state of the pipeline: whether all events are accounted for, and where they are."""
