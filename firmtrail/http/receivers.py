"""Finds the webhook of a request, and checks the receiver that a request names for one."""

from firmtrail.http.call import AnyCall
from firmtrail.http.concurrency import RETRY_AFTER_S
from firmtrail.http.errors import Fault, Invalid, NotFound, ServiceUnavailable
from firmtrail.webhooks import stored
from firmtrail.webhooks.look_ups import TooManyLookUps
from firmtrail.webhooks.stored import Webhook
from firmtrail.webhooks.targets import TargetRefused, target_of


async def webhook_of(call: AnyCall) -> Webhook:
    """Returns the webhook that the path names. Raises `NotFound`."""
    found = await stored.one(call.db, call.project, call.path("id"))
    if found is None:
        raise NotFound("There is no such webhook.")
    return found


async def check_url(call: AnyCall, url: str) -> None:
    """Looks the host of a URL up. Raises `Invalid` if webhooks may not reach it. A name that is not
    found may exist later: each delivery checks it. Raises `ServiceUnavailable` while too many other
    hosts are being looked up."""
    target = target_of(url)
    try:
        with call.services.limits.receivers.enter(call.caller):
            await call.services.sender.check(target)
    except TargetRefused as error:
        detail = f"{error} The operator allows networks with serve --webhooks-allow."
        raise Invalid(detail, code="target_refused", faults=[Fault(detail, "/url")]) from error
    except TooManyLookUps as error:
        raise ServiceUnavailable(str(error), RETRY_AFTER_S) from error
    except OSError as error:
        if target.url.scheme != "https":
            detail = f"The host {target.host} was not found, so its URL has to be an https URL."
            raise Invalid(detail, code="target_refused", faults=[Fault(detail, "/url")]) from error
