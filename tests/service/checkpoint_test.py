"""Checks checkpoints, keys and proofs as auditors read them, in texts for other tools."""

import dataclasses
from base64 import b64decode
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from firmtrail.application import app
from firmtrail.eventstore import log, merkle, proofs
from firmtrail.publishing import checkpoint
from firmtrail.publishing.checkpoint import Checkpoint
from firmtrail.publishing.minimum_sizes import LogName
from firmtrail.publishing.published import LogState
from tests.fleet import received, report
from tests.inclusion import verify_inclusion
from tests.publishing import ACME, SIGNER, opened
from tests.service.site import D, P, Site
from tests.serving import Answer

TEXT = "text/plain; charset=utf-8"
PROOF = {"Prefer": "receipt=proof"}


@pytest.fixture
async def published(site: Site) -> Site:
    """Returns the site, with everything published that is recorded so far."""
    await publish(site)
    return site


async def publish(site: Site) -> None:
    assert site.services.publisher is not None
    await site.services.publisher.following.round()
    assert site.services.publisher.following.problem is None


@pytest.fixture
async def keyless(site: Site) -> AsyncIterator[Site]:
    """Yields the same service on a server without a key."""
    services = dataclasses.replace(site.services, publisher=None)
    server = TestServer(app.build(services))
    await server.start_server(**app.RUNNER_OPTIONS)
    async with TestClient(server) as client:
        yield dataclasses.replace(site, client=client, services=services)


async def entry(site: Site, position: int) -> bytes:
    answer = await site.get(f"{P}/events?from={position}&to={position + 1}")
    return answer.body.removesuffix(b"\n")


async def assert_proves(site: Site, text: str, position: int) -> Checkpoint:
    """Asserts that the proof is valid for the entry at the position, and for no changed one."""
    head, _, note = text.partition("\n\n")
    first, index, *hashes = head.split("\n")
    assert (first, index) == ("c2sp.org/tlog-proof@v1", f"index {position}")
    path = [b64decode(each) for each in hashes]
    of = opened(note)
    leaf = merkle.leaf_hash(await entry(site, position))
    tree = proofs.TreeHead(of.size, of.root)
    assert verify_inclusion(path, position, leaf, tree)
    assert not verify_inclusion(path, position, merkle.leaf_hash(b"other"), tree)
    return of


async def test_the_checkpoint_signs_the_head_of_the_log(published: Site) -> None:
    answer = await published.get(f"{P}/log/checkpoint", "auditor")
    assert (answer.status, answer.headers["Content-Type"]) == (200, TEXT)
    assert answer.headers["Cache-Control"] == "private, max-age=1"
    head = await log.head(published.services.db, published.log_id)
    assert opened(answer.body.decode()) == Checkpoint(
        "firmtrail/acme/1", head.size, merkle.root(head.frontier)
    )
    numbered = await published.get(f"{P}/logs/1/checkpoint", "auditor")
    assert numbered.body == answer.body


async def test_the_key_verifies_the_checkpoint(published: Site) -> None:
    key = await published.get(f"{P}/log/key", "auditor")
    assert (key.status, key.headers["Content-Type"]) == (200, TEXT)
    assert (await published.get(f"{P}/logs/1/key")).body == key.body
    verifier = checkpoint.read_key_line(key.body.decode())
    assert checkpoint.key_line(verifier) == checkpoint.key_line(SIGNER.verifier(ACME))
    note = (await published.get(f"{P}/log/checkpoint")).body.decode()
    assert checkpoint.verify_note(note, verifier).origin == verifier.name


async def test_checkpoints_are_listed_the_newest_first(published: Site) -> None:
    await published.report({"version": "1.0.0"})
    await publish(published)
    listed = await published.get(f"{P}/log/checkpoints?limit=1&count=true", "auditor")
    [newest] = listed.json["items"]
    older = await published.get(f"{P}/log/checkpoints?cursor={listed.json['next']}")
    sizes = [each["size"] for each in (newest, *older.json["items"])]
    assert sizes == sorted(sizes, reverse=True)
    assert len(sizes) == listed.json["total"] >= 2
    assert opened(newest["checkpoint"]).size == sizes[0]
    assert (await published.get(f"{P}/logs/1/checkpoints")).json["items"][0] == newest


async def test_every_event_is_proven_at_every_size(published: Site) -> None:
    size = opened((await published.get(f"{P}/log/checkpoint")).body.decode()).size
    roots: dict[int, bytes] = {}
    for at in range(1, size + 1):
        for position in {0, at // 2, at - 1}:
            answer = await published.get(f"{P}/events/{position}/proof?size={at}", "auditor")
            assert (answer.status, answer.headers["Content-Type"]) == (200, TEXT)
            of = await assert_proves(published, answer.body.decode(), position)
            assert of.size == at
            assert roots.setdefault(at, of.root) == of.root
    latest = await published.get(f"{P}/logs/1/events/0/proof")
    assert (await assert_proves(published, latest.body.decode(), 0)).size == size


@pytest.mark.one_back_end
@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("events/999/proof", 404, "not_found"),
        ("events/x/proof", 404, "not_found"),
        ("events/0/proof?size=0", 422, "invalid"),
        ("events/1/proof?size=1", 422, "invalid"),
        ("events/0/proof?size=999", 422, "invalid"),
        ("events/0/proof?size=-1", 422, "invalid"),
        ("logs/2/events/0/proof", 404, "not_found"),
        ("logs/2/checkpoint", 404, "not_found"),
        ("logs/0/key", 404, "not_found"),
    ],
)
async def test_an_event_that_can_not_be_proven_is_refused_with_the_reason(
    published: Site, path: str, status: int, code: str
) -> None:
    answer = await published.get(f"{P}/{path}")
    assert (answer.status, answer.json["code"]) == (status, code)


async def test_an_event_that_no_checkpoint_covers_is_not_published(
    published: Site, tmp_path: Path
) -> None:
    assert published.services.publisher is not None
    (tmp_path / "checkpoints").write_bytes(b"{")
    await published.services.publisher.following.round()
    assert published.services.publisher.following.problem is not None, "no round publishes any more"
    [outcome] = await published.services.recorder.report(published.log_id, [report("1.0.0")])
    answer = await published.get(f"{P}/events/{received(outcome).position}/proof")
    assert (answer.status, answer.json["code"]) == (404, "not_published")


@pytest.mark.one_back_end
@pytest.mark.parametrize(
    "path", ["log/checkpoint", "log/key", "log/checkpoints", "events/0/proof", "logs/1/checkpoint"]
)
async def test_a_server_without_a_key_says_so(keyless: Site, path: str) -> None:
    answer = await keyless.get(f"{P}/{path}")
    assert (answer.status, answer.json["code"]) == (404, "publishing_off")


async def test_a_public_checkpoint_needs_no_credential(published: Site) -> None:
    paths = ("log/checkpoint", "log/key", "logs/1/checkpoint", "logs/1/key")
    for path in paths:
        assert (await published.call("GET", f"{P}/{path}")).status == 401
        assert (await published.get(f"{P}/{path}", "viewer")).status == 403
    await published.call("PATCH", P, caller="admin", json={"public_checkpoint": True})
    for path in paths:
        for caller in (None, "stranger", "device", "viewer"):
            answer = await published.call("GET", f"{P}/{path}", caller=caller)
            assert answer.status == 200, (path, caller)
            assert answer.headers["Cache-Control"].startswith("public, ")
    for path in ("log/checkpoints", "events/0/proof", "events"):
        assert (await published.call("GET", f"{P}/{path}")).status == 401
    assert (await published.call("GET", "/api/v1/projects/other/log/checkpoint")).status == 401


async def test_a_receipt_has_its_proof_on_request(site: Site) -> None:
    answer = await send(site, {"version": "1.0.0"})
    assert answer.status == 201
    assert answer.headers["Preference-Applied"] == "receipt=proof"
    receipt = answer.json
    assert not receipt["duplicate"]
    assert (await assert_proves(site, receipt["proof"], receipt["position"])).size > receipt[
        "position"
    ]
    again = (await send(site, {"version": "1.0.0"})).json
    assert again["duplicate"]
    await assert_proves(site, again["proof"], receipt["position"])


async def test_each_receipt_of_an_array_has_its_proof(site: Site) -> None:
    good = [{"version": f"1.0.{n}", "report_id": f"r{n}"} for n in range(5)]
    reused = {"version": "9.0.0", "report_id": "r0"}
    answers = (await send(site, [*good, reused, good[2]])).json
    assert answers[5]["refused"] == "report_id_reused"
    for answer in (*answers[:5], answers[6]):
        await assert_proves(site, answer["proof"], answer["position"])
    plain = await site.report({"version": "2.0.0"})
    assert "proof" not in plain.json


async def test_a_receipt_is_answered_by_a_server_that_publishes_nothing(keyless: Site) -> None:
    receipt = (await send(keyless, {"version": "1.0.0"})).json
    assert (receipt["proof"], receipt["no_proof"]) == (None, "publishing_off")
    assert not receipt["duplicate"]


async def test_a_receipt_is_answered_without_proof_if_publishing_takes_too_long(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("firmtrail.http.api.receipts.PROOF_WAIT_S", 0)
    answer = await send(site, {"version": "1.0.0"})
    assert answer.status == 201
    assert "Preference-Applied" not in answer.headers
    assert (answer.json["proof"], answer.json["no_proof"]) == (None, "not_yet")


async def send(site: Site, body: Any) -> Answer:
    return await site.call("POST", f"{D}/reports", caller="device", json=body, headers=PROOF)


async def no_work() -> AsyncGenerator[list[LogState]]:
    return
    yield


async def test_a_refused_log_shows_in_its_writes_and_in_readiness(
    published: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert published.services.publisher is not None
    publisher = published.services.publisher
    assert (await published.call("GET", "/readyz")).status == 200
    monkeypatch.setattr(publisher, "pending", no_work)  # a round would compare the log again
    last = await publisher.served.newest_known(ACME)
    assert last is not None
    beyond = SIGNER.sign(ACME, proofs.TreeHead(last.checkpoint.size + 5, b"\0" * 32))
    publisher.minimum_sizes.note_published(ACME, beyond.checkpoint)
    answer = await published.report({"version": "3.0.0"})
    assert (answer.status, answer.json["code"]) == (503, "log_refused")
    assert int(answer.headers["Retry-After"]) > 0
    for said in ("acme/1", f"{last.checkpoint.size}", f"{beyond.checkpoint.size}", "log continue"):
        assert said in answer.json["detail"]
    ready = await published.call("GET", "/readyz")
    assert (ready.status, ready.json) == (200, {"status": "ready", "refused_logs": 1})
    assert "firmtrail_refused_logs 1.0" in (await published.call("GET", "/metrics")).body.decode()
    publisher.minimum_sizes.refused[LogName("gone", 1)] = "it is no open log"
    assert (await published.call("GET", "/readyz")).json["refused_logs"] == 2
    publisher.minimum_sizes.refused[LogName("other", 1)] = "it too"
    ready = await published.call("GET", "/readyz")
    assert (ready.status, ready.json["detail"]) == (503, "Not ready: logs.")
    assert (await published.get(f"{P}/devices")).status == 200
    assert (await published.get(f"{P}/log/checkpoint")).status == 200
