"""What users call to release versions. A part of the table in routes.py."""

from firmtrail.http import answers, bodies, release_api
from firmtrail.http.lists import Listing
from firmtrail.http.route import Route
from firmtrail.http.user_routes import GET, LISTED, OPERATE, POST, READ, P

RELEASE = f"{P}/releases/{{model}}/{{version}}"

RELEASES = (
    Route(
        method=GET,
        path=f"{P}/releases",
        handler=release_api.get_releases,
        access=READ,
        group="users call",
        summary="The releases, by model, the highest version first.",
        query=bodies.ReleasesQuery,
        answers={200: Listing[answers.Release], 304: None},
        other_media=LISTED,
        is_view=True,
    ),
    Route(
        method=POST,
        path=f"{P}/releases",
        handler=release_api.post_release,
        access=OPERATE,
        group="users call",
        summary="Add a release: a version that devices of a model can be sent to.",
        body=bodies.NewRelease,
        answers={201: answers.Release},
        refusals=frozenset({409}),
        takes_key=True,
    ),
    Route(
        method=GET,
        path=RELEASE,
        handler=release_api.get_release,
        access=READ,
        group="users call",
        summary="A release with its artifacts.",
        answers={200: answers.Release, 304: None},
        is_view=True,
    ),
    Route(
        method=POST,
        path=f"{RELEASE}/withdraw",
        handler=release_api.post_withdrawal,
        access=OPERATE,
        group="users call",
        summary="Withdraw a release for good: it is never offered again.",
        body=bodies.Withdrawal,
        answers={200: answers.Release},
        refusals=frozenset({404, 409}),
        takes_key=True,
    ),
)
