"""The raw event log: Redis Streams, their archive in Postgres, and how it is queried."""
