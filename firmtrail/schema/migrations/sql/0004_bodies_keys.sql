-- Keys that all servers of this database share, and nobody else has. None is ever changed: what was
-- made with one stays good over restarts.

CREATE TABLE shared_keys (
    name text/*C*/ PRIMARY KEY,
    key text/*C*/ NOT NULL
);
