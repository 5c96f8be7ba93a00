"""Lists the routes of this protocol."""

from http import HTTPMethod

from firmtrail.http.callers import DEVICE
from firmtrail.http.route import Handler, Route
from firmtrail.protocols.plain.swupdate import PollQuery, get_swupdate, put_swupdate_log
from firmtrail.protocols.plain.updates import (
    VERSION,
    ArtifactQuery,
    get_named_artifact,
    get_update_artifact,
)

_DEVICE = "/api/v1/projects/{project}/devices/{device}"
_BYTES = "application/octet-stream"


def _artifact(path: str, handler: Handler) -> Route:
    return Route(
        method=HTTPMethod.GET,
        path=path,
        handler=handler,
        access=DEVICE,
        summary=(handler.__doc__ or "").partition("\n")[0],
        answers={200: _BYTES, 204: None, 206: _BYTES, 304: None},
        query=ArtifactQuery,
        refusals={409, 412, 416},
        sends=("Accept-Ranges", "Repr-Digest", VERSION),
        is_polled=True,
    )


ROUTES: tuple[Route, ...] = (
    _artifact(f"{_DEVICE}/update/artifact", get_update_artifact),
    _artifact(f"{_DEVICE}/update/artifact/{{name}}", get_named_artifact),
    Route(
        method=HTTPMethod.GET,
        path=f"{_DEVICE}/swupdate",
        handler=get_swupdate,
        access=DEVICE,
        summary="Redirect SWUpdate to the image that the device should install.",
        answers={302: None},
        query=PollQuery,
        takes_any_query=True,
        refusals={404, 409},
        sends=("Location", "Retry-After"),
        is_polled=True,
    ),
    Route(
        method=HTTPMethod.PUT,
        path=f"{_DEVICE}/swupdate/log",
        handler=put_swupdate_log,
        access=DEVICE,
        summary="Take a line of SWUpdate's log: started, success or fail.",
        answers={200: None},
        takes_bytes=True,
        refusals={409},
    ),
)
