"""Tests that a device's story means the same in whatever protocol its client tells it.

One story is played by several devices, each of a model with the same releases and rollouts, and
each through another protocol. Then their versions, their histories and the counts of their rollouts
are the same, also of rollouts with a schedule, a plan, a window or an approval that they wait for.
"""

from typing import Any, get_args
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.people import add_secret
from tests.service.plans import closed_window, in_seconds
from tests.service.protocol_tellers import OTHERS, Protocol, Step, Teller, Visitor
from tests.service.site import P, Site

pytestmark = pytest.mark.one_back_end  # the rules and views are tested as such

VISITS: tuple[Step, ...] = get_args(Visitor.__value__)
STEPS: tuple[Step, ...] = (
    *VISITS, "roll out", "schedule", "plan", "advance", "await approval", "approve", "pause",
    "resume", "close the window", "open the window", "roll back",
)  # fmt: skip
VERSIONS = ("1.0.0", "1.1.0", "1.2.0", "1.3.0")
PLAN = {"phases": [{"percent": 0, "after_s": 3600}, {"percent": 100}]}


async def begin(site: Site) -> Teller:
    """Registers a device of a model of its own, with releases that have a file."""
    name = f"m{uuid4().hex}"
    teller = Teller(site, name, f"d-{name}")
    await teller.operator("devices", {"device": teller.device, "model": name})
    site.credentials[teller.device] = await add_secret(
        site.services.db, site.services.access, "acme", teller.device
    )
    for version in VERSIONS:
        await teller.operator("releases", {"model": name, "version": version})
        path = f"{P}/releases/{name}/{version}/artifacts/image.swu"
        put = await site.call("PUT", path, caller="operator", data=f"{name} {version}".encode())
        assert put.status == 201, put.body
    return teller


class Story:
    """Plays a story in one protocol."""

    def __init__(self, teller: Teller, protocol: Protocol) -> None:
        self.teller, self.protocol = teller, protocol
        self.runs = VERSIONS[0]
        self.rollouts: list[str] = []

    async def play(self, step: Step) -> None:
        match step:
            case "roll out":
                await self.roll_out()
            case "schedule":
                await self.roll_out(start_at=in_seconds(3600))
            case "plan":
                await self.roll_out(plan=PLAN)
            case "await approval":
                await self.set_up(approvals=1)
                await self.roll_out()
                await self.set_up(approvals=0)
            case "close the window" | "open the window":
                times = closed_window() if step == "close the window" else None
                await self.set_up(model_windows={self.teller.model: times} if times else {})
            case "advance" | "pause" | "resume":
                await self.order(step)
            case "approve":
                await self.order(step, caller="admin")
            case "roll back":
                await self.roll_back()
            case _:
                visit = self.protocol.visit(self.teller, step, self.runs)
                self.runs = await visit or self.runs

    async def roll_out(self, **members: Any) -> None:
        number = len(self.rollouts) + 1
        if number < len(VERSIONS):
            body = {"model": self.teller.model, "version": VERSIONS[number], **members}
            self.rollouts.append((await self.teller.operator("rollouts", body))["id"])

    async def roll_back(self) -> None:
        if self.runs != VERSIONS[0]:
            back = {"model": self.teller.model, "bad_version": self.runs, "reason": "It is bad."}
            await self.teller.operator("rollbacks", back)

    async def order(self, verb: str, *, caller: str = "operator") -> None:
        """Gives an order about the newest rollout; one that its state refuses changes nothing."""
        if self.rollouts:
            path = f"{P}/rollouts/{self.rollouts[-1]}/{verb}"
            answer = await self.teller.site.call("POST", path, caller=caller, json={})
            assert answer.status in {200, 409}, answer.body

    async def set_up(self, **members: Any) -> None:
        answer = await self.teller.site.call("PATCH", P, caller="admin", json=members)
        assert answer.status == 200, answer.body


async def played(site: Site, protocol: Protocol, story: list[Step]) -> dict[str, Any]:
    """Plays the story, and returns what the service shows of it."""
    played = Story(await begin(site), protocol)
    await protocol.runs(played.teller, played.runs)
    for step in story:
        await played.play(step)
    await played.set_up(model_windows={})
    return await _shown(played.teller, played.rollouts)


async def _shown(teller: Teller, rollouts: list[str]) -> dict[str, Any]:
    device = await teller.shown(f"devices/{teller.device}")
    history = await teller.shown(f"devices/{teller.device}/history")
    found = [await teller.shown(f"rollouts/{each}") for each in rollouts]
    return {
        "runs": (device["version"], device["previous_version"]),
        "failing": device["failing"],
        "history": [(each["version"], each["change"]) for each in history["items"]],
        "counts": [each["progress"] for each in found],
        "states": [each["state"] for each in found],
    }


@pytest.mark.parametrize("name", OTHERS)
@settings(
    max_examples=4,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@example(story=["roll out", "fails", "installs", "roll out", "begins", "pause", "asks", "resume"])
@example(story=["roll out", "falls back", "falls back", "fails", "asks", "installs"])
@example(story=["roll out", "installs", "roll out", "installs", "roll back", "installs", "asks"])
@example(
    story=["schedule", "installs", "plan", "asks", "advance", "installs", "roll back", "installs"]
)
@example(story=["await approval", "asks", "approve", "installs", "roll out", "begins", "installs"])
@example(story=["roll out", "close the window", "installs", "open the window", "begins",
                "close the window", "installs"])  # fmt: skip
@given(story=st.lists(st.sampled_from(STEPS), min_size=3, max_size=10))
async def test_a_story_means_the_same_in_every_protocol(
    site: Site, name: str, story: list[Step]
) -> None:
    protocol = OTHERS[name]
    expected = await played(site, protocol.native, story)
    found = await played(site, protocol, story)
    if "falls back" in story and not protocol.has_fallbacks:
        del found["failing"], expected["failing"]
    assert found == expected
