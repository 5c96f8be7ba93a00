-- The API token that issued a token. A token's descendants end with it.

ALTER TABLE tokens ADD COLUMN issued_by text/*C*/;

CREATE INDEX tokens_of_issuer ON tokens (issued_by);
