"""Says where a request of hawkBit's protocol carries its credential and its names, and which path
its links continue.

The tenant is the project, or `default`: the project that the credential belongs to. Its case does
not count. Some clients refuse a link that does not repeat the path as they wrote it, so links do.
"""

from aiohttp import web

from firmtrail.access.keys import Keys
from firmtrail.http.auth import presented
from firmtrail.http.call import AnyCall
from firmtrail.http.callers import DeviceAccess, Presented

SCHEMES = ("TargetToken", "GatewayToken")
CREDENTIALS_PROJECT = "default"
MOUNTS = ("", "/api/v0/hawkbit")
"""The paths below which the protocol is served: hawkBit's own, and that of Memfault's devices."""
BASE = "/{tenant}/controller/v1/{device}"

_BEFORE_DEVICE = "/controller/v1/"


async def of_tenant(request: web.Request, _keys: Keys) -> Presented:
    """Returns what a request presents."""
    tenant = request.match_info["tenant"].lower()
    project = None if tenant == CREDENTIALS_PROJECT else tenant
    return Presented(presented(request, *SCHEMES), project, request.match_info["device"])


CONTROLLER = DeviceAccess(presents=of_tenant)


def base_of(call: AnyCall) -> str:
    """Returns the absolute URL of the device, with the path as the request spells it."""
    before, _, after = call.request.rel_url.raw_path.partition(_BEFORE_DEVICE)
    device = after.partition("/")[0]
    return f"{call.services.clients.url(call.request)}{before}{_BEFORE_DEVICE}{device}"
