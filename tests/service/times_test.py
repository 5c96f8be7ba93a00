"""Tests that every parameter and member takes the same times, and that percentages are exact."""

import re
from typing import Any

import msgspec
import pytest

from firmtrail.http import faults
from firmtrail.http.scalars import AsOf, Time
from tests.service.routes import IN_PROJECT, ROUTES, assert_is_problem, name_of, path_of
from tests.service.site import D, P, Site

OUTSIDE = ["9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00+00:01", "0000-01-01T00:00:00Z"]
NO_TIMES = ["2026-02-30T00:00:00Z", "2026-01-01T00:00:61Z", "2026-01-01T24:00:60Z"]
LEAPS = [
    ("2016-12-31T23:59:60Z", "2016-12-31T23:59:59.999Z"),
    ("2016-12-31T23:59:60.500Z", "2016-12-31T23:59:59.999Z"),
    ("2017-01-01T05:29:60+05:30", "2016-12-31T23:59:59.999Z"),
    ("2016-12-31t18:59:60-05:00", "2016-12-31T23:59:59.999Z"),
]
TIMED_PATHS = [
    "devices?at=",
    "events?since=",
    "events?until=",
    "access-record?since=",
    "access-record?until=",
    "devices/d1/history?at=",
    "versions/timeline?step=31622400&from=",
    "devices?as_of=",
    "versions?as_of=",
]


@pytest.mark.parametrize("text", [*OUTSIDE, *NO_TIMES])
async def test_no_parameter_takes_a_time_that_does_not_exist(site: Site, text: str) -> None:
    seen = set()
    for route in IN_PROJECT:
        for field in msgspec.structs.fields(route.query):
            if not any(
                kind in faults.alternatives(field.type) or kind is field.type
                for kind in (Time, AsOf)
            ):
                continue
            others = {"from": "2026-01-01T00:00:00Z"} if "timeline" in route.path else {}
            query = "&".join(
                f"{name}={value.replace('+', '%2B')}"
                for name, value in (others | {field.encode_name: text}).items()
            )
            answer = await site.call(route.method, f"{path_of(route)}?{query}", caller="admin")
            problem = assert_is_problem(answer, 422)
            assert [each["parameter"] for each in problem["errors"]] == [field.encode_name]
            seen.add(field.encode_name)
    assert seen == {"as_of", "at", "since", "until", "from", "to"}


@pytest.mark.parametrize(("text", "meant"), LEAPS)
async def test_every_parameter_takes_a_leap_second(site: Site, text: str, meant: str) -> None:
    for path in TIMED_PATHS:
        one, other = [
            await site.get(f"{P}/{path}{each.replace('+', '%2B')}") for each in (text, meant)
        ]
        assert (one.status, other.status) == (200, 200), path
        if "access" not in path:
            assert one.body == other.body
    query = "from=2016-01-01T00:00:00Z&step=86400&to="
    assert (
        await site.get(f"{P}/versions/timeline?{query}{text.replace('+', '%2B')}")
    ).status == 200


@pytest.mark.parametrize(("text", "meant"), LEAPS)
async def test_a_report_of_a_leap_second_is_recorded(site: Site, text: str, meant: str) -> None:
    for reports in (
        [{"version": "1.0.0", "occurred_at": text, "detail": text}],
        [{"version": "1.1.0", "occurred_at": text}, {"version": "1.2.0", "occurred_at": text}],
    ):
        assert (await site.report(*reports)).status == 201
    body = [{"version": "1.3.0", "occurred_at": text}, {"version": "x"}]
    answer = await site.call("POST", f"{D}/reports?faulty=skip", caller="device", json=body)
    assert [("refused" in each) for each in answer.json] == [False, True]
    history = (await site.get(f"{D}/history?limit=500")).json["items"]
    assert {each["occurred_at"] for each in history} == {meant}
    assert history[-1]["detail"] == text


async def test_a_token_expires_at_a_time_that_can_be_written(site: Site) -> None:
    for path, more in (("/api/v1/tokens", {"project": "acme"}),):
        for text in OUTSIDE:
            body = {**more, "expires_at": text}
            answer = await site.call("POST", path, caller="admin", json=body)
            problem = assert_is_problem(answer, 422)
            assert [each["pointer"] for each in problem["errors"]] == ["/expires_at"]
        leap = {**more, "expires_at": "2099-12-31T23:59:60Z"}
        answer = await site.call("POST", path, caller="admin", json=leap)
        assert answer.json["expires_at"] == "2099-12-31T23:59:59.999Z"
        for text in ("9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:60Z"):
            body = {**more, "expires_at": text}
            answer = await site.call("POST", path, caller="admin", json=body)
            assert (answer.status, answer.json["expires_at"]) == (201, "9999-12-31T23:59:59.999Z")


def times_in(kind: Any, name: str = "") -> list[str]:
    """Returns the members of a body of this type that hold times."""
    parts = [
        faults.bare_type(part) for part in (faults.alternatives(faults.bare_type(kind)) or (kind,))
    ]
    found = []
    for part in parts:
        if faults._has_times(part) and not faults.is_struct(part):
            found.append(name)
        elif faults.is_struct(part):
            for field in msgspec.structs.fields(part):
                found += times_in(field.type, field.encode_name)
    return found


def test_every_time_in_a_body_is_in_the_calendar() -> None:
    """The types of a struct cannot express this rule, so each struct checks it."""
    for route in ROUTES:
        if route.body is None:
            continue
        kind = faults.alternative_of(route.body, {})
        for name in times_in(kind):
            found = faults.faults_of({name: OUTSIDE[0]}, kind)
            assert f"/{name}" in {fault.pointer for fault in found}, name_of(route)


PERCENTS = ["99.995", "0.005", "0.015", "1e-300", "33.333", "0.30000000000000004"]


@pytest.mark.parametrize("percent", PERCENTS)
async def test_a_percentage_has_two_decimals(fleet: Site, percent: str) -> None:
    started = {"version": "1.1.0", "model": "m", "percent": 0.01}
    rollout = (await fleet.call("POST", f"{P}/rollouts", caller="operator", json=started)).json
    assert rollout["percent"] == 0.01
    for path, members in (
        ("rollouts", '"version": "1.1.0", "model": "m"'),
        ("rollouts", '"version": "1.1.0", "model": "m", "dry_run": true'),
        ("rollbacks", '"bad_version": "1.1.0", "model": "m", "reason": "x"'),
        (f"rollouts/{rollout['id']}/advance", '"reason": "x"'),
    ):
        answer = await fleet.call(
            "POST",
            f"{P}/{path}",
            caller="operator",
            data=f'{{{members}, "percent": {percent}}}'.encode(),
            headers={"Content-Type": "application/json"},
        )
        problem = assert_is_problem(answer, 422)
        assert [each["pointer"] for each in problem["errors"]] == ["/percent"]
    watched = started | {"pause_if": {"failed_percent": 1.5, "min_reports": 1}}
    assert_is_problem(
        await fleet.call("POST", f"{P}/rollouts", caller="operator", json=watched), 422
    )


@pytest.mark.parametrize("percent", [0, 100, 33.33, 0.01, 99.99, 14.29, 57.1])
async def test_a_percentage_is_kept_exactly(fleet: Site, percent: float) -> None:
    body = {"version": "1.1.0", "model": "m", "percent": percent}
    answer = await fleet.call("POST", f"{P}/rollouts", caller="operator", json=body)
    assert (answer.status, answer.json["percent"]) == (201, percent)


def test_the_pattern_of_times_allows_leap_seconds() -> None:
    [pattern] = (meta.pattern for meta in faults._metas(Time))
    assert pattern is not None
    assert all(re.match(pattern, text) for text, _ in LEAPS)
