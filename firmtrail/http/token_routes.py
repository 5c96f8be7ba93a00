"""Lists the routes of tokens and logins. A part of the table in routes.py."""

from firmtrail.http import access_bodies as wire
from firmtrail.http import token_api
from firmtrail.http.callers import USER
from firmtrail.http.lists import Listing, ListQuery
from firmtrail.http.route import Route
from firmtrail.http.user_routes import ADMINISTER, DELETE, GET, LISTED, POST, P

TOKENS = (
    Route(
        method=GET,
        path="/api/v1/tokens",
        handler=token_api.get_tokens,
        access=USER,
        group="users call",
        summary="The caller's API tokens.",
        query=ListQuery,
        answers={200: Listing[wire.ApiToken], 304: None},
        other_media=LISTED,
    ),
    Route(
        method=POST,
        path="/api/v1/tokens",
        handler=token_api.post_token,
        access=USER,
        group="users call",
        summary="A new API token, shown this once.",
        body=wire.WantedToken,
        answers={201: wire.ApiToken},
        refusals=frozenset({404}),
        takes_key=True,
    ),
    Route(
        method=DELETE,
        path="/api/v1/tokens/{id}",
        handler=token_api.delete_token,
        access=USER,
        group="users call",
        summary="End an API token of the caller's.",
        answers={204: None},
        refusals=frozenset({404}),
    ),
    Route(
        method=POST,
        path="/api/v1/logout",
        handler=token_api.post_logout,
        access=USER,
        group="users call",
        summary="End the login that the request comes with.",
        answers={204: None},
        takes_key=True,
    ),
    Route(
        method=GET,
        path="/api/v1/logins",
        handler=token_api.get_logins,
        access=USER,
        group="users call",
        summary="The caller's logins.",
        query=ListQuery,
        answers={200: Listing[wire.ListedLogin], 304: None},
        other_media=LISTED,
    ),
    Route(
        method=DELETE,
        path="/api/v1/logins/{id}",
        handler=token_api.delete_login,
        access=USER,
        group="users call",
        summary="End a login of the caller's.",
        answers={204: None},
        refusals=frozenset({404}),
    ),
    Route(
        method=GET,
        path=f"{P}/tokens",
        handler=token_api.get_project_tokens,
        access=ADMINISTER,
        group="users call",
        summary="The project's tokens, and the logins of its members.",
        query=ListQuery,
        answers={200: Listing[wire.HeldToken], 304: None},
        other_media=LISTED,
    ),
    Route(
        method=DELETE,
        path=f"{P}/tokens/{{id}}",
        handler=token_api.delete_project_token,
        access=ADMINISTER,
        group="users call",
        summary="End a token of the project with those that it issued, or a login of a member.",
        answers={204: None},
    ),
)
