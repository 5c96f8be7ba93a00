"""What is called to release versions, and to load them. A part of the table in routes.py."""

from http import HTTPMethod

from firmtrail.http import answers, artifact_api, bodies, release_api
from firmtrail.http.callers import DEVICE
from firmtrail.http.lists import Listing
from firmtrail.http.respond import BYTES
from firmtrail.http.route import Route
from firmtrail.http.user_routes import GET, LISTED, OPERATE, POST, READ, D, P

PUT = HTTPMethod.PUT
OF_BYTES = ("Accept-Ranges", "Repr-Digest")

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
    Route(
        method=PUT,
        path=f"{RELEASE}/artifacts/{{name}}",
        handler=artifact_api.put_artifact,
        access=OPERATE,
        group="users call",
        summary="Add a file to a release: its bytes, which never change afterwards.",
        takes_bytes=True,
        answers={201: answers.Artifact, 200: answers.Artifact},
        refusals=frozenset({404, 409}),
    ),
    Route(
        method=GET,
        path=f"{RELEASE}/artifacts/{{name}}",
        handler=artifact_api.get_artifact,
        access=READ,
        group="users call",
        summary="The bytes of an artifact.",
        answers={200: BYTES, 206: BYTES, 304: None},
        refusals=frozenset({409, 412, 416}),
        sends=OF_BYTES,
    ),
    Route(
        method=GET,
        path=f"{D}/artifacts/{{sha256}}",
        handler=artifact_api.get_offered_artifact,
        access=DEVICE,
        group="devices call",
        summary="The bytes of an artifact of a release that the device was offered.",
        answers={200: BYTES, 206: BYTES, 304: None},
        refusals=frozenset({409, 410, 412, 416}),
        sends=OF_BYTES,
    ),
)
