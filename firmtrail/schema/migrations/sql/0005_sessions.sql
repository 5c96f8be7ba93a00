-- A session of a person in a browser is a login whose digest stands in a column of its own: the text in a
-- cookie is no token, and a token is no session. It ends when it was not used for a while.

ALTER TABLE tokens ADD COLUMN session_digest text/*C*/;

ALTER TABLE tokens ADD COLUMN used_at_ms bigint;

CREATE UNIQUE INDEX tokens_of_session ON tokens (session_digest) WHERE session_digest IS NOT NULL;
