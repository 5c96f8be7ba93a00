-- Records each read of the log and each exported list: by which user or token, and when. Rows are
-- added and never changed; they name people and tokens by their ids only.

CREATE TABLE access_record (
    project text/*C*/ NOT NULL,
    at_ms bigint NOT NULL,
    request_id text/*C*/ NOT NULL,
    actor text/*C*/ NOT NULL,
    path text/*C*/ NOT NULL,
    asked text/*C*/ NOT NULL,
    PRIMARY KEY (project, actor, at_ms, request_id)
) /*WITHOUT ROWID*/;

CREATE UNIQUE INDEX access_record_by_time ON access_record (project, at_ms, request_id);
