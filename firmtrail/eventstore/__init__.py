"""Keeps the truth: an append-only log in SQLite or Postgres. It knows nothing of devices."""
