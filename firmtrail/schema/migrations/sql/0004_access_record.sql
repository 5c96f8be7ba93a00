-- The place of each row in its project's chain, and where each chain ends. `sealed` is how much of
-- it the project's log holds the head of.

ALTER TABLE access_record ADD COLUMN seq bigint;

CREATE UNIQUE INDEX access_record_by_seq ON access_record (project, seq);

CREATE TABLE access_heads (
    project text/*C*/ NOT NULL PRIMARY KEY,
    size bigint NOT NULL,
    head text/*C*/ NOT NULL,
    sealed bigint NOT NULL
) /*WITHOUT ROWID*/;
