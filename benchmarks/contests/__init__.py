"""The contests: a module measures one thing beside its rivals."""
