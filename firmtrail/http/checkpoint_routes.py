"""What auditors call to check the log with tools of their own. A part of the table in routes.py."""

from http import HTTPMethod

from firmtrail.http import answers, bodies, checkpoint_api
from firmtrail.http.callers import MemberAccess, Permission
from firmtrail.http.lists import Listing, ListQuery
from firmtrail.http.route import Route
from firmtrail.http.user_routes import LISTED, P

GET = HTTPMethod.GET
TEXT = "text/plain"

AUDIT = MemberAccess(Permission.AUDIT)
AUDIT_OR_PUBLIC = MemberAccess(Permission.AUDIT, is_public_checkpoint=True)


def _of_log(at: str) -> tuple[Route, ...]:
    """The routes of one log, below its address."""
    return (
        Route(
            method=GET,
            path=f"{at}/checkpoint",
            handler=checkpoint_api.get_checkpoint,
            access=AUDIT_OR_PUBLIC,
            group="auditors call",
            summary="The log's last checkpoint: C2SP tlog-checkpoint, a signed note.",
            answers={200: TEXT, 304: None},
        ),
        Route(
            method=GET,
            path=f"{at}/key",
            handler=checkpoint_api.get_key,
            access=AUDIT_OR_PUBLIC,
            group="auditors call",
            summary="The key that verifies the log's checkpoints, as a C2SP signed-note vkey.",
            answers={200: TEXT, 304: None},
        ),
        Route(
            method=GET,
            path=f"{at}/checkpoints",
            handler=checkpoint_api.get_checkpoints,
            access=AUDIT,
            group="auditors call",
            summary="Every checkpoint that was published, the newest first.",
            query=ListQuery,
            answers={200: Listing[answers.PublishedCheckpoint], 304: None},
            other_media=LISTED,
        ),
    )


def _proof(path: str) -> Route:
    return Route(
        method=GET,
        path=path,
        handler=checkpoint_api.get_proof,
        access=AUDIT,
        group="auditors call",
        summary="The proof that an event is in the log: C2SP tlog-proof.",
        query=bodies.ProofQuery,
        answers={200: TEXT, 304: None},
        refusals=frozenset({503}),
    )


CHECKPOINTS = (
    *_of_log(f"{P}/log"),
    *_of_log(f"{P}/logs/{{number}}"),
    _proof(f"{P}/events/{{position}}/proof"),
    _proof(f"{P}/logs/{{number}}/events/{{position}}/proof"),
)
