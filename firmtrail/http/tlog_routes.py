"""The log as other people's tools read it. A part of the table in routes.py."""

from http import HTTPMethod

from firmtrail.http import bodies, tlog_api
from firmtrail.http.callers import MemberAccess, Permission
from firmtrail.http.route import Route
from firmtrail.http.user_routes import P

GET = HTTPMethod.GET
AUDIT = MemberAccess(Permission.AUDIT)


def _of_log(prefix: str) -> tuple[Route, ...]:
    """What there is of each log. Entries come first: else they were the name of a level."""
    return (
        Route(
            method=GET,
            path=f"{prefix}/tile/entries/{{tile}}",
            handler=tlog_api.get_bundle,
            access=AUDIT,
            group="auditors call",
            summary="Up to 256 entries, each after its length: a bundle of C2SP tlog-tiles.",
            answers={200: tlog_api.OCTETS, 304: None},
            sends=("Vary",),
        ),
        Route(
            method=GET,
            path=f"{prefix}/tile/{{level}}/{{tile}}",
            handler=tlog_api.get_tile,
            access=AUDIT,
            group="auditors call",
            summary="Up to 256 hashes of a level of the tree: a tile of C2SP tlog-tiles.",
            answers={200: tlog_api.OCTETS, 304: None},
        ),
        Route(
            method=GET,
            path=f"{prefix}/consistency",
            handler=tlog_api.get_consistency,
            access=AUDIT,
            group="auditors call",
            summary="The proof that the log only grew between two sizes, one base64 hash per line.",
            query=bodies.ConsistencyQuery,
            answers={200: tlog_api.TEXT, 304: None},
        ),
    )


TLOG = (*_of_log(f"{P}/log"), *_of_log(f"{P}/logs/{{number}}"))
