"""Makes the devices of a measurement, and the requests that they send, as bytes.

A device's number gives its name and its secret. Each report has an id of its own, so that the check
of the log can find it.
"""

import random
from base64 import urlsafe_b64encode
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from hashlib import sha256
from itertools import batched, count
from typing import Any, NamedTuple

import msgspec

PROJECT = "fleet"
P = f"/api/v1/projects/{PROJECT}"
ARRAY_REPORTS = 500
GATEWAY_DEVICES = 500
"""How many devices, neighbours by name, one gateway serves."""
VERSIONS = [f"1.{minor}.0" for minor in range(20)]


class Sent(NamedTuple):
    """Holds a request and the reports in it."""

    request: bytes
    reports: list[tuple[str, str]]
    """(device, report id)"""


def name(number: int) -> str:
    """Returns a device's id."""
    return f"device-{number:07}"


def secret(number: int) -> str:
    """Returns a device's secret: as long and as random as those that the service issues."""
    digest = sha256(f"secret of {number}".encode()).digest()
    return f"fts_{urlsafe_b64encode(digest).decode().rstrip('=')}"


def report(serial: int) -> dict[str, Any]:
    """Returns a report of about 120 bytes."""
    return {
        "version": random.choice(VERSIONS),
        "status": "installed",
        "report_id": f"{serial:016x}",
        "occurred_at": datetime.now(UTC).isoformat(timespec="milliseconds"),
    }


class Fleet:
    """Makes the requests of the registered devices 0 … `devices` - 1."""

    def __init__(self, devices: int, first_report: int = 0) -> None:
        """Numbers the reports from `first_report`; a number that a device used is refused."""
        self.devices = devices
        self._serials = count(first_report)

    def singles(self) -> Iterator[Sent]:
        """Yields reports of random devices, each with its own secret."""
        while True:
            number = random.randrange(self.devices)
            made = report(next(self._serials))
            path = f"{P}/devices/{name(number)}/reports"
            yield Sent(post(path, secret(number), made), [(name(number), made["report_id"])])

    def device_arrays(self) -> Iterator[Sent]:
        """Yields the arrays that random devices send after they were offline."""
        while True:
            number = random.randrange(self.devices)
            array = [report(next(self._serials)) for _ in range(ARRAY_REPORTS)]
            path = f"{P}/devices/{name(number)}/reports"
            keys = [(name(number), each["report_id"]) for each in array]
            yield Sent(post(path, secret(number), array), keys)

    def gathered(self) -> Iterator[list[dict[str, Any]]]:
        """Yields the arrays that random gateways send for their devices."""
        while True:
            first = random.randrange(self.devices) // GATEWAY_DEVICES * GATEWAY_DEVICES
            served = range(first, min(first + GATEWAY_DEVICES, self.devices))
            yield [self.report_of(random.choice(served)) for _ in range(ARRAY_REPORTS)]

    def scattered(self) -> Iterator[list[dict[str, Any]]]:
        """Yields the arrays of one gateway that serves the whole fleet."""
        while True:
            numbers = (random.randrange(self.devices) for _ in range(ARRAY_REPORTS))
            yield [self.report_of(number) for number in numbers]

    def all_devices(self, version: str) -> Iterator[list[dict[str, Any]]]:
        """Yields arrays until each device has reported this version once."""
        for numbers in batched(range(self.devices), ARRAY_REPORTS):
            yield [self.report_of(number) | {"version": version} for number in numbers]

    def report_of(self, number: int) -> dict[str, Any]:
        """Returns a report of the device of this number."""
        return report(next(self._serials)) | {"device": name(number)}

    def seed_singles(self) -> Iterator[Sent]:
        """Yields reports as the seed's route takes them."""
        while True:
            number = random.randrange(self.devices)
            body = {
                "device_id": number,
                "secret": f"secret-of-{number}",
                "version": f"SemVer1.{random.randrange(20)}",
            }
            yield Sent(post("/upload_firmware_update", "-", body), [])

    def check_ins(self) -> Iterator[Sent]:
        """Yields check-ins of random devices, each with its own secret."""
        while True:
            number = random.randrange(self.devices)
            yield Sent(get(f"{P}/devices/{name(number)}/update", secret(number)), [])

    def reads(self, token: str, suffix: str = "") -> Iterator[Sent]:
        """Yields reads of random devices."""
        while True:
            path = f"{P}/devices/{name(random.randrange(self.devices))}{suffix}"
            yield Sent(get(path, token), [])


def polls(etags: Mapping[int, str]) -> Iterator[Sent]:
    """Yields check-ins of random devices of these, each with its ETag unless that is ""."""
    numbers = list(etags)
    while True:
        number = random.choice(numbers)
        headers = f"If-None-Match: {etags[number]}\r\n" if etags[number] else ""
        yield Sent(get(f"{P}/devices/{name(number)}/update", secret(number), headers), [])


def audits(devices: int, token: str) -> dict[str, Iterator[Sent]]:
    """Returns the requests of auditors: for the checkpoint, and for proofs of random events.

    A log has at least one event for each device: its registration.
    """
    checkpoints = (f"{P}/log/checkpoint" for _ in count())
    proofs = (f"{P}/events/{random.randrange(devices)}/proof" for _ in count())
    return {
        name: (Sent(get(path, token), []) for path in paths)
        for name, paths in (("checkpoint", checkpoints), ("proof", proofs))
    }


def gateway_arrays(arrays: Iterator[list[dict[str, Any]]], token: str) -> Iterator[Sent]:
    """Yields the requests in which a gateway sends these arrays."""
    for array in arrays:
        keys = [(each["device"], each["report_id"]) for each in array]
        yield Sent(post(f"{P}/reports", token, array), keys)


def post(path: str, credential: str, body: object, scheme: str = "Bearer") -> bytes:
    """Returns a POST of a JSON body."""
    encoded = msgspec.json.encode(body)
    headers = f"Content-Type: application/json\r\nContent-Length: {len(encoded)}\r\n"
    return _head("POST", path, f"{scheme} {credential}", headers) + encoded


def get(path: str, credential: str, headers: str = "", scheme: str = "Bearer") -> bytes:
    """Returns a GET; each of the headers ends its line."""
    return _head("GET", path, f"{scheme} {credential}", headers)


def _head(method: str, path: str, authorization: str, headers: str) -> bytes:
    return (
        f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        f"Authorization: {authorization}\r\n{headers}\r\n"
    ).encode()
