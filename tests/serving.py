"""Settings of servers that tests run in their own process."""

from dataclasses import replace
from typing import Any

from firmtrail import config
from firmtrail.http.call import Services

SERVING = config.Serving(database=config.Cluster("postgresql:///"), instance="firmtrail")
"""The settings of a server whose database the test opens, and which others may write, too."""


def with_settings(services: Services, **changes: Any) -> Services:
    """Returns the services of a server that has other settings."""
    return replace(services, serving=replace(services.serving, **changes))
