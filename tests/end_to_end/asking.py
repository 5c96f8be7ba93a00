"""Asks a server over HTTP from tests of processes."""

import json
import urllib.error
import urllib.request
from typing import Any

DONE, FOUND_WRONG, COULD_NOT_RUN = 0, 1, 2
SEED = "get_firmware_updates_by_device_id?email=diegosalcovsky@gmail.com&device_id=1"


def ask(url: str, token: str = "", body: Any = None) -> tuple[int, bytes]:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, headers | {"Content-Type": "application/json"})  # noqa: S310 (our own)
    try:
        with urllib.request.urlopen(request, timeout=30) as response:  # noqa: S310 (our own)
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()
