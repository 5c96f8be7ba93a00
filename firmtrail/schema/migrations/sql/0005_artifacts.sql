-- Digests of artifacts for clients that do not know SHA-256, and what a Mender artifact says of itself.

ALTER TABLE release_artifacts ADD COLUMN sha1 text/*C*/;

ALTER TABLE release_artifacts ADD COLUMN md5 text/*C*/;

ALTER TABLE release_artifacts ADD COLUMN provides_name text/*C*/;

ALTER TABLE release_artifacts ADD COLUMN device_types text/*C*/;

-- Bytes that arrived before their release is named, as publishing tools of others send them. The bytes
-- are in the store of artifacts; a row is deleted after a day.

CREATE TABLE artifact_uploads (
    project text/*C*/ NOT NULL,
    upload_id text/*C*/ NOT NULL,
    created_at_ms bigint NOT NULL,
    size_bytes bigint NOT NULL,
    sha256 text/*C*/,
    sha1 text/*C*/,
    md5 text/*C*/,
    PRIMARY KEY (project, upload_id)
) /*WITHOUT ROWID*/;

CREATE INDEX artifact_uploads_by_time ON artifact_uploads (project, created_at_ms);
