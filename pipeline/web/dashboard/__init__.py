"""The dashboard: pages for people, rendered here, who sign in with a read token."""
