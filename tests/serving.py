"""Settings of servers that tests run in their own process, and the answers of servers."""

from dataclasses import dataclass, replace
from typing import Any

import msgspec

from firmtrail import config
from firmtrail.http.call import Services

SERVING = config.Serving(database=config.Cluster("postgresql:///"), instance="firmtrail")
"""The settings of a server whose database the test opens, and which others may write, too."""


@dataclass(frozen=True)
class Answer:
    """Holds an answer, read to its end."""

    status: int
    headers: Any
    body: bytes

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)

    @property
    def log_size(self) -> int:
        return int(self.headers["Firmtrail-Log-Size"])


def with_settings(services: Services, **changes: Any) -> Services:
    """Returns the services of a server that has other settings."""
    return replace(services, serving=replace(services.serving, **changes))
