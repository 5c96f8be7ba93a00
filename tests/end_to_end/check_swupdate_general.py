"""Updates a device whose client is SWUpdate in the mode of its general server.

Debian's build leaves this mode out, so no other test run includes this file. The variable
`FIRMTRAIL_TEST_SWUPDATE_GENERAL` names a build with CONFIG_SURICATTA_GENERAL, libconfig, and images
signed by CMS: `.venv/bin/python -m pytest tests/end_to_end/check_swupdate_general.py`.
"""

import contextlib
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from dataclasses import field as member
from pathlib import Path

import pytest

from tests.end_to_end.field import Field, field, network, wait_for
from tests.end_to_end.network import Network
from tests.end_to_end.site import MODEL, P
from tests.end_to_end.swu import HARDWARE
from tests.end_to_end.swupdate import daemon

__all__ = ["field", "network"]

PAYLOAD = bytes(range(256)) * 1_000

_SETTINGS = """\
globals = {{ verbose = true; }};
gservice = {{
    url = "{url}/swupdate";
    logurl = "{url}/swupdate/log";
    polldelay = 1;
    logevent = (
        {{ event = "started"; format = "started,date,version"; }},
        {{ event = "success"; format = "success,date,version"; }},
        {{ event = "fail"; format = "fail,date,version"; }}
    );
}};
identify = ( {{ name = "version"; value = "{runs}"; }} );
"""


def program() -> str:
    """Returns the path of the build."""
    named = os.environ.get("FIRMTRAIL_TEST_SWUPDATE_GENERAL")
    if not named:
        pytest.fail("FIRMTRAIL_TEST_SWUPDATE_GENERAL has to name a build", pytrace=False)
    return named


@dataclass(frozen=True)
class General:
    """Describes a device, whose daemon runs while `running` is entered."""

    folder: Path
    certificate: Path
    network: Network
    secret: str
    log: Path = member(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "log", self.folder / "general.log")

    def says(self, text: str) -> bool:
        return text in self.log.read_text(errors="replace")

    @contextlib.asynccontextmanager
    async def running(self, runs: str) -> AsyncIterator[None]:
        """Runs the daemon of a device that runs this version while the block runs."""
        url = self.network.url.replace("://", f"://d1:{self.secret}@")
        settings = self.folder / "swupdate.cfg"
        settings.write_text(_SETTINGS.format(url=f"{url}{P}/devices/d1", runs=runs))
        key, mode = ("-k", str(self.certificate)), ("-l", "5", "-H", HARDWARE)
        command = (program(), *key, *mode, "-f", str(settings), "-u", "-p 1 -w 1 -r 5")
        async with daemon(*command, folder=self.folder, log=self.log):
            yield


async def until_said(device: General, text: str) -> None:
    async def is_said() -> bool:
        return device.says(text)

    await wait_for(is_said, f"swupdate prints {text}")


async def test_swupdate_installs_is_confirmed_fails_and_goes_back(
    field: Field, network: Network
) -> None:
    d1 = General(field.folder, field.signer.certificate, network, field.site.secrets["d1"])
    await is_refused_with_a_wrong_secret(field, d1)
    await installs_over_a_broken_network(field, network, d1)
    await is_confirmed_after_the_restart(field, d1)
    await fails_with_its_log(field, d1)
    await goes_back(field, d1)


async def is_refused_with_a_wrong_secret(field: Field, d1: General) -> None:
    size = await field.log_size()
    stranger = replace(d1, secret="w" * 47)
    async with stranger.running("1.0.0"):
        await until_said(stranger, "HTTP/1.1 401")
    assert await field.log_size() == size


async def installs_over_a_broken_network(field: Field, network: Network, d1: General) -> None:
    """The server is away at first, then has nothing to do, and the download breaks off once."""
    payload, size = await field.release("1.1.0"), await field.log_size()
    network.cut_after_bytes = len(payload) // 2
    network.leave()
    async with d1.running("1.0.0"):

        async def is_refused() -> bool:
            return network.refused > 0

        await wait_for(is_refused, "swupdate asks")
        network.come_back()
        await until_said(d1, "HTTP/1.1 404")
        assert await field.log_size() == size
        await field.roll_out("1.1.0")
        await field.until("d1", "1.1.0", "rebooting")
    assert network.cuts == 1
    assert field.installed.read_bytes() == payload


async def is_confirmed_after_the_restart(field: Field, d1: General) -> None:
    async with d1.running("1.1.0"):
        await field.until("d1", "1.1.0", "installed")
    statuses = [status for version, status in await field.said("d1") if version == "1.1.0"]
    assert statuses == ["downloading", "rebooting", "installed"]


async def fails_with_its_log(field: Field, d1: General) -> None:
    await field.put("1.2.0", b"no image" * 1_000)
    rollout = await field.roll_out("1.2.0")
    async with d1.running("1.1.0"):
        await field.until("d1", "1.2.0", "failed")
        await field.steer(f"rollouts/{rollout}/abort", reason="no image")
    detail = await field.failure("d1")
    assert (detail.startswith("fail,"), detail.endswith(",1.1.0")) == (True, True), detail


async def goes_back(field: Field, d1: General) -> None:
    payload = await field.release("1.0.0")
    bad = {"bad_version": "1.1.0", "model": MODEL, "to": "previous", "reason": "bad"}
    await field.steer("rollbacks", **bad)
    async with d1.running("1.1.0"):
        await field.until("d1", "1.0.0", "rebooting")
    assert field.installed.read_bytes() == payload
    async with d1.running("1.0.0"):
        await field.until("d1", "1.0.0", "installed")
