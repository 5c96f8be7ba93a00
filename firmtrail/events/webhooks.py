"""Declares the events of webhooks. A URL may contain a secret in its path, so the log has only the
beginning of it, up to the host and the port."""

from msgspec import UNSET, UnsetType

from firmtrail.events.event import Event


class WebhookAdded(Event, frozen=True):
    """Records that events are sent to a receiver from here on."""

    target: str
    """The scheme, host and port of the URL."""
    types: tuple[str, ...] | None = None
    """The names of the events that are sent; None: all."""
    models: tuple[str, ...] | None = None
    """The models that events have to be about; None: any, or none."""
    notices: tuple[str, ...] = ()
    """The names of the notices that are sent."""


class WebhookChanged(Event, frozen=True):
    """Records that the members present were set."""

    target: str | UnsetType = UNSET
    """The scheme, host and port of the new URL."""
    types: tuple[str, ...] | UnsetType | None = UNSET
    """The names of the events that are sent; None: all."""
    models: tuple[str, ...] | UnsetType | None = UNSET
    """The models that events have to be about; None: any, or none."""
    notices: tuple[str, ...] | UnsetType = UNSET
    """The names of the notices that are sent."""
    enabled: bool | UnsetType = UNSET
    """Whether anything is sent. The service itself disables a webhook that fails for a day."""
    disabled_for: str | None = None
    """Why the service disabled it: "gone" or "failing"."""
    rekeyed: bool = False
    """Whether it got a new secret."""


class WebhookRemoved(Event, frozen=True):
    """Records that nothing is sent to the receiver any more."""
