"""How tests talk to a service over HTTP."""

import io
from dataclasses import dataclass, field
from typing import Any

import msgspec
from aiohttp import ClientResponse
from aiohttp.test_utils import TestClient

from firmtrail.http.call import Services
from firmtrail.http.sessions import COOKIE
from tests.serving import Answer

P = "/api/v1/projects/acme"
D = f"{P}/devices/d1"
D2 = f"{P}/devices/d2"
CONSOLE = "/console"

type Address = tuple[str, int]
"""A host and a port."""


@dataclass(frozen=True)
class Site:
    """A running service, and the credentials of everybody it knows."""

    client: TestClient[Any, Any]
    services: Services
    log_id: int
    credentials: dict[str, str]
    sessions: dict[str, str] = field(default_factory=dict)
    """The cookies of the roles and of the stranger, which open pages."""

    async def call(
        self,
        method: str,
        path: str,
        *,
        caller: str | None = None,
        json: Any = None,
        data: bytes | str | None = None,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """Send a request as this caller: a role, "device", "stranger", or nobody. A person sends
        the cookie of a session to a page, as a browser does for a form of the same page."""
        sent = self.identity(path, caller) | (headers or {})
        if json is not None:
            data = msgspec.json.encode(json)
            sent.setdefault("Content-Type", "application/json")
        body = io.BytesIO(data) if isinstance(data, bytes) else data  # aiohttp warns of large bytes
        async with self.client.request(
            method, path, data=body, headers=sent, allow_redirects=False
        ) as response:
            return await _answer(response)

    def identity(self, path: str, caller: str | None) -> dict[str, str]:
        """Returns the headers that identify this caller."""
        if caller is None:
            return {}
        if path.startswith(CONSOLE) and caller in self.sessions:
            return {
                "Cookie": f"{COOKIE}={self.sessions[caller]}",
                "Sec-Fetch-Site": "same-origin",
            }
        return {"Authorization": f"Bearer {self.credentials[caller]}"}

    async def post(self, path: str, caller: str = "admin", **fields: Any) -> Answer:
        """Sends a page's form; the answer is not followed."""
        sent = self.identity(path, caller)
        async with self.client.post(
            path, data=fields, headers=sent, allow_redirects=False
        ) as response:
            return await _answer(response)

    async def get(self, path: str, caller: str = "admin", **headers: str) -> Answer:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.call("GET", path, caller=caller, headers=named)

    async def get_begun(self, path: str, caller: str = "admin", **headers: str) -> Answer:
        """The head of an answer, whose body may never end."""
        sent = self.identity(path, caller)
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.client.get(path, headers=sent, allow_redirects=False) as response:
            return Answer(response.status, response.headers, b"")

    async def report(self, *reports: Any, caller: str = "device", path: str = D) -> Answer:
        """One report alone, several as an array."""
        body = reports[0] if len(reports) == 1 else list(reports)
        return await self.call("POST", f"{path}/reports", caller=caller, json=body)


async def _answer(response: ClientResponse) -> Answer:
    return Answer(response.status, response.headers, await response.read())
