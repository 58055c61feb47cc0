"""The dashboard with made events, for what takes longer than a test: pictures, and many viewers."""
