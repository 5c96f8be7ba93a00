"""Holds what every page knows of itself: where it is, who looks, at which moment, and its links.

Links carry the moment of the past that the page shows, so a person stays in it from page to page.
A page of the past offers no action.
"""

from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import quote, urlencode

import msgspec

from firmtrail.console import files
from firmtrail.http.call import AnyCall

type QueryValue = str | int | Sequence[str] | None


class OlderLog(NamedTuple):
    """Says which log has the newest event of a moment before the project's newest log began."""

    number: int
    size: int
    """How many events that log had at the moment."""
    newest: int
    """The number of the project's newest log."""
    newest_began_ms: int


class Moment(NamedTuple):
    """Names what a page knows: the size of the log, and, if it shows the past, the size then."""

    size: int
    stop: int | None = None
    at_ms: int | None = None
    """The time as of which the past is shown, if one was asked for or is known."""
    older: OlderLog | None = None
    """Where the moment is, if `stop` is below 0."""

    @property
    def shown_size(self) -> int:
        """Returns how many events of the newest log the page knows."""
        return self.size if self.stop is None else max(0, self.stop)


class Here(msgspec.Struct, frozen=True, kw_only=True):
    """Describes the page that is being made; templates know it as `here`."""

    prefix: str
    """The path below which a trusted proxy serves the service; "" is the root."""
    path: str
    """The path of the page, with the prefix."""
    query: dict[str, str]
    project: str
    permissions: frozenset[str]
    email: str | None
    """The address of the person that is signed in."""
    now_ms: int
    moment: Moment | None

    @property
    def as_of(self) -> str | None:
        """Returns the text that selects the past; None on a page of the present."""
        return self.query.get("as_of")

    @property
    def is_past(self) -> bool:
        return self.as_of is not None

    def may(self, permission: str) -> bool:
        """Returns whether the page shows a control that needs this permission."""
        return permission in self.permissions and not self.is_past

    def reads(self, permission: str) -> bool:
        """Returns whether the person may read what needs this permission, at any moment."""
        return permission in self.permissions

    def url(self, *path: object, **query: QueryValue) -> str:
        """Returns the address of a page of this project, as of the moment that this page shows."""
        kept = {"as_of": self.as_of, **query}
        return self.console(self.project, *path, **kept)

    def now_url(self, *path: object, **query: QueryValue) -> str:
        """Returns the address of a page of this project in the present."""
        return self.console(self.project, *path, **query)

    def console(self, *path: object, **query: QueryValue) -> str:
        """Returns the address of any page of the console."""
        segments = "".join(f"/{quote(str(each), safe=':')}" for each in path)
        return f"{self.prefix}/console{segments}{_query_text(query)}"

    def again(self, **changes: QueryValue) -> str:
        """Returns the address of this page with these parameters changed; None removes one."""
        return f"{self.path}{_query_text({**self.query, **changes})}"

    def static(self, name: str) -> str:
        """Returns the address of a static file, under which browsers keep it for ever."""
        return f"{self.prefix}{files.path_of(name)}"


def here_of(call: AnyCall, moment: Moment | None) -> Here:
    """Returns what the page of this request knows of itself."""
    url = call.request.rel_url
    caller = call.caller
    return Here(
        prefix=call.prefix,
        path=f"{call.prefix}{url.raw_path}",
        query={name: text for name, text in url.query.items() if text and name != "part"},
        project=call.project,
        permissions=caller.permissions,
        email=caller.email,
        now_ms=call.services.access.now_ms(),
        moment=moment,
    )


def part_of(call: AnyCall) -> str | None:
    """Returns the part that the query asks for, if the route takes parts."""
    return getattr(getattr(call, "query", None), "part", None)


def _query_text(query: dict[str, QueryValue]) -> str:
    given = {name: value for name, value in query.items() if value is not None}
    return f"?{urlencode(given, doseq=True)}" if given else ""
