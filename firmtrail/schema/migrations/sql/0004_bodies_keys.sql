-- Secret keys that all servers of this database share. They never change, so anything made with one
-- stays valid over restarts.

CREATE TABLE shared_keys (
    name text/*C*/ PRIMARY KEY,
    key text/*C*/ NOT NULL
);
