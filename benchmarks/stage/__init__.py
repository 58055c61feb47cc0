"""The stage: servers, processes and load that the contests share."""
