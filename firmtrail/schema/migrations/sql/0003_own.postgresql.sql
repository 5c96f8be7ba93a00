-- Statistics that the planner needs before the first row comes, as in 0001_own.postgresql.sql.

ALTER TABLE device_offers
    ALTER COLUMN log_id SET (n_distinct = 1),
    ALTER COLUMN generation SET (n_distinct = 1);

INSERT INTO device_offers (
    log_id, generation, device, source, version, cause, position, offered_at_ms, attempt, attempts,
    has_failed, is_counted, installing_place, outcome_position, outcome_place)
VALUES
    (0, 0, '', '', '', '', 0, 0, 0, 0, 0, 0, 0, 0, 0),
    (1, 1, 'a', 'a', 'a', 'a', 1, 1, 1, 1, 1, 1, 1, 1, 1);

ANALYZE device_offers;

ALTER TABLE device_asks
    ALTER COLUMN log_id SET (n_distinct = 1),
    ALTER COLUMN generation SET (n_distinct = 1);

INSERT INTO device_asks (
    log_id, generation, device, question, position, asked_at_ms, expires_at_ms)
VALUES
    (0, 0, '', '', 0, 0, 0),
    (1, 1, 'a', 'a', 1, 1, 1);

ANALYZE device_asks;

SAVEPOINT filled;

TRUNCATE device_offers, device_asks;

RELEASE SAVEPOINT filled;
