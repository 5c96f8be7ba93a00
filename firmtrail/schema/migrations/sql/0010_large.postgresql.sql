-- Rows are only added to these tables, so VACUUM has nothing to remove. It comes after each 100 000 rows
-- and freezes them. By PostgreSQL's defaults it comes when a fifth of the table is new, and freezes
-- nothing that is younger than 50 million transactions: so one VACUUM against wraparound, months later,
-- would read and write the whole table.

ALTER TABLE events SET (
    autovacuum_vacuum_insert_scale_factor = 0,
    autovacuum_vacuum_insert_threshold = 100000,
    autovacuum_freeze_min_age = 0);

ALTER TABLE device_history SET (
    autovacuum_vacuum_insert_scale_factor = 0,
    autovacuum_vacuum_insert_threshold = 100000,
    autovacuum_freeze_min_age = 0);

ALTER TABLE fleet_moves SET (
    autovacuum_vacuum_insert_scale_factor = 0,
    autovacuum_vacuum_insert_threshold = 100000,
    autovacuum_freeze_min_age = 0);
