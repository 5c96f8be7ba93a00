"""Publishes and deploys with the unmodified memfault-cli, and loads the result with curl, as a
device that speaks plain HTTP or Memfault's protocol.
"""

import asyncio
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.databases import migrate_now
from tests.end_to_end.command import firmtrail, new_project
from tests.end_to_end.conftest import Serve
from tests.end_to_end.memfault_cli import DEPLOY, UPLOAD, Cli, curl
from tests.end_to_end.network import Network

BYTES = bytes(range(256)) * 4000


async def publishes_when_the_server_is_back(cli: Cli, file: Path) -> None:
    async with Network(urlsplit(cli.url).port or 0).open() as network:
        network.leave()
        asked = Cli(network.url, cli.token)
        publishing = asyncio.create_task(asyncio.to_thread(asked.publish, file, "1.1.0"))
        while not network.refused:
            await asyncio.sleep(0.1)
        network.come_back()
        code, said = await publishing
        assert code == 0, said


@pytest.fixture
def database(tmp_path: Path) -> str:
    database = f"sqlite:///{tmp_path}/a.db"
    migrate_now(database)
    return database


def test_memfault_cli_publishes_deploys_and_deactivates(
    database: str, serve: Serve, tmp_path: Path
) -> None:
    token = new_project(database)
    add = ("device", "add", "d1", "--project", "acme", "--model", "m", "--secret", "s" * 40)
    assert firmtrail(database, *add).exit_code == 0
    url = serve(database).url
    cli, file = Cli(url, token), tmp_path / "fw.bin"
    file.write_bytes(BYTES)

    asyncio.run(publishes_when_the_server_is_back(cli, file))
    code, said = cli.publish(file, "1.1.0")  # the server has the file already
    assert code == 0, said
    file.write_bytes(b"other bytes")
    assert cli.publish(file, "1.1.0")[0] != 0
    assert cli.run(*UPLOAD, "--software-version", "1.2.0", str(file), token="ftt_x")[0] != 0

    for options in (("--rollout-percent", "50"), ()):
        code, said = cli.run(*DEPLOY, "1.1.0", *options)
        assert code == 0, said
    assert cli.run(*DEPLOY, "9.9.9")[0] != 0

    device = ("--header", "Memfault-Project-Key: " + "s" * 40)
    asked = "device_serial=d1&hardware_version=m&software_type=main&current_version=1.0.0"
    image = curl(*device, f"{url}/api/v0/releases/latest/url?{asked}")
    loaded = tmp_path / "loaded.bin"
    loaded.write_bytes(BYTES[:300_000])  # as if the connection broke there
    curl("--fail", "--continue-at", "-", "--output", str(loaded), image)
    assert loaded.read_bytes() == BYTES

    plain = f"{url}/api/v1/projects/acme/devices/d1/update/artifact"
    curl("--fail", "--user", f"d1:{'s' * 40}", "--output", str(loaded), f"{plain}?running=1.0.0")
    assert loaded.read_bytes() == BYTES
    status = ("--write-out", "%{http_code}", "--output", "/dev/null")
    done = curl(*status, "--user", f"d1:{'s' * 40}", f"{plain}?running=1.1.0")
    assert done == "204"

    code, said = cli.run(*DEPLOY, "1.1.0", "--deactivate")
    assert code == 0, said
    assert cli.run(*DEPLOY, "1.1.0", "--deactivate")[0] != 0
