"""What the viewers of the dashboard share: annotations and saved views."""
