"""Routes of the stats API about what viewers share: annotations and saved views."""
