"""Requests are counted as prometheus_client counts them, in fewer steps."""

import pytest
from prometheus_client import CollectorRegistry, Histogram, generate_latest

from firmtrail.http import metrics
from firmtrail.http.metrics import Metrics

NAME = "firmtrail_http_request_duration_seconds"
SECONDS = (0.0, 0.001, 0.0010001, 0.3, 30, 30.1, 4000)


def counted(text: bytes) -> list[str]:
    """Returns the lines of the duration of requests, without their times of creation."""
    lines = text.decode().splitlines()
    return [each for each in lines if each.startswith(NAME) and "_created" not in each]


@pytest.mark.parametrize("status", [200, 503])
def test_a_request_is_counted_in_the_bucket_of_its_duration(status: int) -> None:
    ours, registry = Metrics(), CollectorRegistry()
    labels = ["protocol", "method", "route", "status"]
    theirs = Histogram(NAME, "", labels, buckets=metrics._BUCKETS_S, registry=registry)
    observe = ours.observer("native", "GET", "/x")
    for seconds in SECONDS:
        observe(status, seconds)
        theirs.labels("native", "GET", "/x", str(status)).observe(seconds)
    assert counted(ours._counted()) == counted(generate_latest(registry)) != []
