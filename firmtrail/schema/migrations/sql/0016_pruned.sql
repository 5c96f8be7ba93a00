-- How far each log is pruned: a stub stands for each entry of a device below `size`, and for no other
-- entry. A stub is `#`, the log's id, `/`, the position, `/`, and the hash of the entry as a leaf of the
-- tree (RFC 6962, 2.1). `bytes` is what the texts had more than their stubs.

CREATE TABLE pruned (
    log_id bigint NOT NULL PRIMARY KEY,
    size bigint NOT NULL,
    entries bigint NOT NULL,
    bytes bigint NOT NULL,
    pruned_at_ms bigint NOT NULL
) /*WITHOUT ROWID*/;
