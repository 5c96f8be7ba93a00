"""Takes commands in, decides them under the lock of the log, and appends their events."""
