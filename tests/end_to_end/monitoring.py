"""Starts programs on free ports and waits until they answer."""

import time
import urllib.parse
import urllib.request
from typing import Any

import msgspec


def answers(url: str, query: str, at_s: float) -> list[Any]:
    asked = urllib.parse.urlencode({"query": query, "time": at_s})
    address = f"{url}/api/v1/query?{asked}"
    with urllib.request.urlopen(address, timeout=20) as answer:  # noqa: S310 (ours)
        found: list[Any] = msgspec.json.decode(answer.read())["data"]["result"]
        return found


def until_ready(url: str) -> None:
    for _ in range(300):
        try:
            urllib.request.urlopen(f"{url}/-/ready", timeout=5).close()  # noqa: S310 (ours)
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise AssertionError("Prometheus did not start")
