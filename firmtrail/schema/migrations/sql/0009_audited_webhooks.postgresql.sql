-- What an audit compares of a webhook with the log. The path and query of its URL may be a secret, so
-- the view ends the URL before them.

CREATE VIEW audited_webhooks AS
SELECT project, webhook_id, types, models, notices, enabled,
    substring(url from '^[^/?]*//[^/?]*') AS target
FROM webhooks;
