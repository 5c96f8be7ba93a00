"""A served log is verified and exported as a tlog, and an export can be continued."""

from collections.abc import Callable
from pathlib import Path

import pytest
from aiohttp import ClientSession, web
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pytest_aiohttp.plugin import AiohttpClient

from firmtrail.audit.export import export, log_folder, show_newest
from firmtrail.audit.finding import Findings
from firmtrail.audit.growing_tree import GrowingTree
from firmtrail.audit.source import (
    CHECKPOINT,
    KEY,
    DirectorySource,
    Missing,
    Unreadable,
    UrlSource,
    bundle_path,
    join_bundle,
    path,
    published,
)
from firmtrail.audit.verify import FINDINGS_ENOUGH, ServedLog, verify
from firmtrail.eventstore.merkle import TILE_WIDTH, leaf_hash
from firmtrail.publishing.checkpoint import BadNote, Checkpoint, key_line, sign, verifier
from tests.end_to_end.truth import root

ORIGIN = "firmtrail/acme/1"
SIGNER = Ed25519PrivateKey.from_private_bytes(bytes(32))
KEY_LINE = key_line(verifier(ORIGIN, SIGNER.public_key()))
ENTRIES = [f"entry {number}".encode() for number in range(70_000)]


class Memory:
    """Serves a log of the first `size` entries from memory, and notes the paths that are read."""

    def __init__(self, size: int, log: list[bytes] = ENTRIES) -> None:
        self.asked: list[str] = []
        self.files = {KEY: KEY_LINE.encode()}
        tree, log = GrowingTree(), log[:size]
        tiles = [*tree.extend([leaf_hash(entry) for entry in log]), *tree.unfinished()]
        for tile in tiles:
            self.files[path(tile.id)] = tile.hashes
        for start in range(0, size, TILE_WIDTH):
            some = log[start : start + TILE_WIDTH]
            self.files[bundle_path(start // TILE_WIDTH, len(some))] = join_bundle(some)
        head = Checkpoint(ORIGIN, size, root(log))
        self.files[CHECKPOINT] = sign(head, SIGNER).encode()

    async def get(self, path: str) -> bytes:
        self.asked.append(path)
        if path not in self.files:
            raise Missing(path)
        return self.files[path]


def nothing(_: int) -> None:
    """Ignores the progress."""


async def verified(source: Memory | DirectorySource, since: Checkpoint | None = None) -> Findings:
    findings = Findings()
    there = await published(source, [KEY_LINE])
    await verify(ServedLog(source, there.checkpoint, since), findings, nothing)
    return findings


async def exported(source: Memory, folder: Path) -> Findings:
    findings = Findings()
    there, before = await published(source, [KEY_LINE]), None
    if (folder / CHECKPOINT).exists():
        before = (await published(DirectorySource(folder), [KEY_LINE])).checkpoint
    way = ServedLog(source, there.checkpoint, before)
    await export(there, way, folder, findings=findings, advance=nothing)
    return findings


def checkpoint(size: int) -> Checkpoint:
    return Checkpoint(ORIGIN, size, root(ENTRIES[:size]))


SIZES = (0, 1, 255, 256, 257, 300, 512, 700)


@pytest.mark.parametrize("size", [*SIZES, 66_000])
async def test_an_intact_log_passes_from_its_beginning_and_from_any_size(size: int) -> None:
    source = Memory(size)
    for old in (None, *(checkpoint(old) for old in SIZES if old <= size)):
        assert (await verified(source, old)).kept == [], old


@pytest.mark.parametrize("old", SIZES[:-1])
@pytest.mark.parametrize("new", [257, 700])
async def test_an_export_grows_and_is_always_a_whole_log(
    tmp_path: Path, old: int, new: int
) -> None:
    if old > new:
        old, new = new, old
    assert (await exported(Memory(old), tmp_path)).kept == []
    source = Memory(new)
    assert (await exported(source, tmp_path)).kept == []
    assert (await verified(DirectorySource(tmp_path))).kept == []
    bundles = [asked for asked in source.asked if asked.startswith("tile/entries/")]
    assert len(bundles) == -(-new // TILE_WIDTH) - old // TILE_WIDTH
    for name, content in source.files.items():
        assert (tmp_path / name).read_bytes() == content


FORKS: dict[str, tuple[int, Callable[[list[bytes]], list[bytes]]]] = {
    "shorter": (200, lambda log: log),
    "as long": (300, lambda log: [b"x", *log[1:]]),
    "its last entry is another": (700, lambda log: [*log[:299], b"x", *log[300:]]),
    "its first tile is another": (700, lambda log: [b"x", *log[1:]]),
    "an entry is left out": (700, lambda log: [*log[:7], *log[8:]]),
}


def test_a_directory_changes_to_the_next_log_in_one_step(tmp_path: Path) -> None:
    """Shows that its links stay as they are: only the link that they lead through changes."""
    links = []
    for number in (1, 2):
        for name in (CHECKPOINT, KEY):
            log_folder(tmp_path, number).mkdir(parents=True, exist_ok=True)
            (log_folder(tmp_path, number) / name).write_text(str(number))
        show_newest(tmp_path, number)
        assert [(tmp_path / name).read_text() for name in (CHECKPOINT, KEY)] == [str(number)] * 2
        links.append([(tmp_path / name).lstat().st_ino for name in (CHECKPOINT, KEY, "tile")])
    assert links[0] == links[1]


@pytest.mark.parametrize("name", FORKS)
async def test_a_fork_is_found_and_does_not_change_an_export(tmp_path: Path, name: str) -> None:
    size, change = FORKS[name]
    fork = Memory(size, change(ENTRIES))
    await exported(Memory(300), tmp_path)
    before = (tmp_path / CHECKPOINT).read_bytes()
    assert (await verified(fork, checkpoint(300))).count
    assert (await exported(fork, tmp_path)).count
    assert (tmp_path / CHECKPOINT).read_bytes() == before


TAMPERINGS: dict[str, tuple[str, Callable[[bytes], bytes], str]] = {
    "an entry": ("tile/entries/000", lambda b: b.replace(b"y 7", b"y x", 1), "position 7"),
    "a length": ("tile/entries/000", lambda b: b"\xff" + b[1:], "tile/entries/000"),
    "a cut bundle": ("tile/entries/002.p/188", lambda b: b[:-9], "tile/entries/002.p/188"),
    "a hash": ("tile/0/000", lambda b: b[:-1] + bytes([b[-1] ^ 1]), "position 255"),
    "a hash above": ("tile/1/000.p/2", lambda b: bytes([b[0] ^ 1]) + b[1:], "tile/1/000.p/2"),
    "a cut tile": ("tile/0/002.p/188", lambda b: b[:-32], "tile/0/002.p/188"),
}


@pytest.mark.parametrize("name", TAMPERINGS)
async def test_a_changed_file_and_a_missing_file_are_found(name: str) -> None:
    file, change, where = TAMPERINGS[name]
    source = Memory(700)
    changed = change(source.files[file])
    assert changed != source.files[file]
    source.files[file] = changed
    assert where in {found.where for found in (await verified(source)).kept}
    del source.files[file]
    assert file in {found.where for found in (await verified(source)).kept}


async def test_a_partial_tile_may_be_missing_once_the_tile_is_full(tmp_path: Path) -> None:
    await exported(Memory(300), tmp_path)
    grown = Memory(700)
    assert "tile/1/000.p/1" not in grown.files
    assert (await exported(grown, tmp_path)).kept == []


@pytest.mark.parametrize(
    "change",
    [
        lambda note: note.replace(b"\n700\n", b"\n699\n"),
        lambda note: note.replace(b"acme/1\n7", b"acme/2\n7", 1),
        lambda note: note[:-12] + b"AAAAAAAAAA=\n",
    ],
)
async def test_a_checkpoint_that_the_key_did_not_sign_is_refused(
    change: Callable[[bytes], bytes],
) -> None:
    source = Memory(700)
    source.files[CHECKPOINT] = change(source.files[CHECKPOINT])
    with pytest.raises(BadNote):
        await published(source, [KEY_LINE])


async def test_an_audit_of_a_source_that_serves_nothing_ends_soon() -> None:
    source = Memory(700)
    head = Checkpoint(ORIGIN, 1 << 60, bytes(32))
    source.files[CHECKPOINT] = sign(head, SIGNER).encode()
    assert (await verified(source)).count >= FINDINGS_ENOUGH


class Server:
    """Gives the listed answers one after another, and repeats the last one."""

    def __init__(self, *answers: tuple[int, bytes]) -> None:
        self.answers = list(answers)

    async def answer(self, _: web.Request) -> web.Response:
        status, body = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return web.Response(status=status, body=body)


async def got(aiohttp_client: AiohttpClient, *answers: tuple[int, bytes], times: int = 1) -> bytes:
    app = web.Application()
    app.router.add_get("/log/{path:.*}", Server(*answers).answer)
    client = await aiohttp_client(app)
    source = UrlSource(client.session, str(client.make_url("/log/")))
    for _ in range(times - 1):
        await source.get("checkpoint")
    return await source.get("checkpoint")


async def test_a_server_that_fails_now_and_then_is_asked_again(
    aiohttp_client: AiohttpClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("firmtrail.audit.source.WAITS_S", (0, 0))
    answers = ((200, b"a"), (503, b""), (500, b""), (200, b"b"))
    assert await got(aiohttp_client, *answers, times=2) == b"b"
    with pytest.raises(Unreadable):
        await got(aiohttp_client, (200, b"a"), (503, b""), times=2)
    with pytest.raises(Unreadable):
        await got(aiohttp_client, (503, b""), (200, b"a"))
    with pytest.raises(Missing):
        await got(aiohttp_client, (404, b""))


@pytest.mark.parametrize("host", ["127.0.0.1:1", "127.0.0.1:99999", ""])
async def test_messages_about_a_url_contain_no_credential(host: str) -> None:
    async with ClientSession() as session:
        source = UrlSource(session, f"http://me:hidden@{host}/log")
        with pytest.raises(Unreadable) as unreadable:
            await source.get("checkpoint")
    assert f"http://{host}/log/checkpoint can't be read: " in str(unreadable.value)
    for shown in (str(unreadable.value), str(source)):
        assert "hidden" not in shown


async def test_a_server_can_not_fill_an_auditors_memory(
    aiohttp_client: AiohttpClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("firmtrail.audit.source.FILE_BYTES_MAX", 1_000)
    assert len(await got(aiohttp_client, (200, bytes(1_000)))) == 1_000
    with pytest.raises(Unreadable):
        await got(aiohttp_client, (200, bytes(1_001)))
