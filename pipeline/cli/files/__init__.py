"""Files that commands read and write: logs, NDJSON, Parquet."""
