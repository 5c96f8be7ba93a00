-- Only an append to `events` adds identities, by its trigger. 0014 has added those of older events.

CREATE FUNCTION refuse_unless_of_events() RETURNS trigger LANGUAGE plpgsql
AS $$ BEGIN
    IF pg_trigger_depth() > 1 THEN RETURN NULL;
    END IF;
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME
    USING DETAIL = 'A trigger of events adds its rows, and nobody else.';
END $$;

CREATE TRIGGER identities_append BEFORE INSERT ON identities
FOR EACH STATEMENT EXECUTE FUNCTION refuse_unless_of_events();

ALTER TABLE identities ENABLE ALWAYS TRIGGER identities_append;

DROP TABLE identities_left;
