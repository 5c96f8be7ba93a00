-- The log's Merkle tree above its leaves: the root of every completed subtree of 256 ^ level leaves,
-- level 1 and up. Leaf hashes are not stored: they are computed from the entries.

CREATE TABLE subtrees (
    log_id bigint NOT NULL,
    level bigint NOT NULL,
    number bigint NOT NULL,
    hash text/*C*/ NOT NULL,
    PRIMARY KEY (log_id, level, number)
) /*WITHOUT ROWID*/;
