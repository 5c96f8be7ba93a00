-- The position of each row in its project's chain, and the head of each chain. `sealed` is the size
-- of the chain whose head is recorded in the project's log.

ALTER TABLE access_record ADD COLUMN seq bigint;

CREATE UNIQUE INDEX access_record_by_seq ON access_record (project, seq);

CREATE TABLE access_heads (
    project text/*C*/ NOT NULL PRIMARY KEY,
    size bigint NOT NULL,
    head text/*C*/ NOT NULL,
    sealed bigint NOT NULL
) /*WITHOUT ROWID*/;
