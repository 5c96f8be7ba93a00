"""The truth: an append-only log on SQLite or Postgres. It knows nothing of devices."""
