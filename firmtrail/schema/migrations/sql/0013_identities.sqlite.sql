-- On PostgreSQL, `identities` is a table: see 0013_identities.postgresql.sql. Here `events` has a unique
-- index of identities, and both names are other names of its rows.

CREATE VIEW identities AS
SELECT log_id, stream, event_id, position
FROM events;

CREATE VIEW events_by_stream AS
SELECT log_id, stream, event_id, position, recorded_at_ms, entry
FROM events;

-- The parts of `events` by position; NULL: unbounded.

CREATE VIEW event_partitions AS
SELECT 'events' AS name, CAST(NULL AS bigint) AS start, CAST(NULL AS bigint) AS stop;
