INSERT INTO shared_keys (name, key)
VALUES ('cursors', lower(hex(randomblob(32))));
