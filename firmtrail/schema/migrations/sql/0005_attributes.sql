-- What devices say of themselves: one JSON object for each device, which changes and is not in the log;
-- and for each of its pairs a row with the digest of "key:value", by which devices are found.

CREATE TABLE reported_attributes (
    project text/*C*/ NOT NULL,
    device text/*C*/ NOT NULL,
    data text/*C*/ NOT NULL,
    changed_at_ms bigint NOT NULL,
    PRIMARY KEY (project, device)
);

CREATE TABLE attribute_pairs (
    project text/*C*/ NOT NULL,
    pair text/*C*/ NOT NULL,
    device text/*C*/ NOT NULL,
    PRIMARY KEY (project, pair, device)
) /*WITHOUT ROWID*/;
