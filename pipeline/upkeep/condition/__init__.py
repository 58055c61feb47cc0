"""How the pipeline is: what is wrong with it and what to do, and how it was of late."""
