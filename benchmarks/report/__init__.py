"""What a run has shown, as table and plot."""
