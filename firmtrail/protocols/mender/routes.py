"""Lists the routes of this protocol."""

from http import HTTPMethod
from typing import Any

from firmtrail.http.callers import (
    PUBLIC,
    DeviceAccess,
    MemberAccess,
    Permission,
    RouteAccess,
)
from firmtrail.http.route import Handler, ListOf, Route
from firmtrail.protocols.mender import authentication, deployments, inventory, publishing
from firmtrail.protocols.mender.deployments import (
    DeviceDeployment,
    NextRequest,
    Provided,
    StatusReport,
)
from firmtrail.protocols.mender.publishing import FirstPageQuery, ListedArtifact, ListedDevice

DEVICES = "/api/devices"
DEPLOYMENTS = f"{DEVICES}/v1/deployments/device/deployments"
MANAGEMENT = "/api/management"
ARTIFACTS = f"{MANAGEMENT}/v1/deployments/artifacts"
ATTRIBUTES = f"{DEVICES}/v1/inventory/device/attributes"

DEVICE = DeviceAccess(presents=authentication.of_device)

READ = MemberAccess(Permission.READ, presents=publishing.of_token)
OPERATE = MemberAccess(Permission.OPERATE, presents=publishing.of_token)

GET, POST = HTTPMethod.GET, HTTPMethod.POST
PUT, PATCH = HTTPMethod.PUT, HTTPMethod.PATCH


def _row(
    method: HTTPMethod, path: str, handler: Handler, access: RouteAccess = DEVICE, **fields: Any
) -> Route:
    summary = (handler.__doc__ or "").partition("\n")[0]
    return Route(
        method=method, path=path, handler=handler, access=access, summary=summary, **fields
    )


_NEXT: dict[str, Any] = {"answers": {200: DeviceDeployment, 204: None}, "refusals": {404, 409}}
_INVENTORY: dict[str, Any] = {
    "takes_bytes": True,
    "answers": {200: None},
    "refusals": {404, 409},
}

ROUTES: tuple[Route, ...] = (
    _row(
        POST,
        f"{DEVICES}/v1/authentication/auth_requests",
        authentication.post_auth_request,
        PUBLIC,
        is_raw=True,
        answers={200: "application/jwt"},
        refusals={400, 401, 409},
    ),
    _row(
        POST,
        f"{DEPLOYMENTS.replace('v1', 'v2')}/next",
        deployments.post_next,
        body=NextRequest,
        **_NEXT,
    ),
    _row(POST, f"{DEPLOYMENTS}/next", deployments.post_old_next, body=NextRequest, **_NEXT),
    _row(
        GET,
        f"{DEPLOYMENTS}/next",
        deployments.get_old_next,
        query=Provided,
        takes_any_query=True,
        **_NEXT,
    ),
    _row(
        PUT,
        f"{DEPLOYMENTS}/{{id}}/status",
        deployments.put_status,
        body=StatusReport,
        answers={204: None},
        refusals={404, 409},
    ),
    _row(
        PUT,
        f"{DEPLOYMENTS}/{{id}}/log",
        deployments.put_log,
        takes_bytes=True,
        answers={204: None},
        refusals={404, 409},
    ),
    _row(PUT, ATTRIBUTES, inventory.put_inventory, **_INVENTORY),
    _row(PATCH, ATTRIBUTES, inventory.patch_inventory, **_INVENTORY),
    _row(
        POST,
        f"{MANAGEMENT}/v1/useradm/auth/login",
        publishing.post_mender_login,
        PUBLIC,
        is_raw=True,
        answers={200: "application/jwt"},
        refusals={401},
    ),
    _row(
        POST,
        ARTIFACTS,
        publishing.post_artifact,
        OPERATE,
        takes_bytes=True,
        answers={201: None},
        refusals={404, 409},
    ),
    _row(
        GET,
        ARTIFACTS,
        publishing.get_artifacts,
        READ,
        query=FirstPageQuery,
        answers={200: ListOf(ListedArtifact)},
    ),
    _row(
        GET,
        f"{MANAGEMENT}/v2/devauth/devices",
        publishing.get_mender_devices,
        READ,
        query=FirstPageQuery,
        answers={200: ListOf(ListedDevice)},
    ),
)
