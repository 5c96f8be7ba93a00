"""The pages of the log show what the log has, in words and in bytes, to those that may read it."""

import html
import re
from string import Formatter
from urllib.parse import quote

import msgspec
import pytest

from firmtrail.console.meaning import SENTENCES, Wording, facts_of
from firmtrail.console.pages import audit, log
from firmtrail.events.entry import TYPES
from firmtrail.events.event import Event, Recorded
from firmtrail.events.fleet import DeviceChanged, SettingsChanged, UpdateFailed
from firmtrail.events.steering import (
    AutoRollout,
    PlanPhase,
    RolloutAdvanced,
    RolloutPaused,
    RolloutPhaseMet,
    RolloutStarted,
    Window,
)
from firmtrail.events.webhooks import WebhookChanged
from tests.fleet import NOON_MS
from tests.service.access_records import records
from tests.service.site import P, Site
from tests.service.steered import post

LOG = "/console/acme/log"
AUDIT = "/console/acme/audit"
HOSTILE = "<script>alert(1)</script> \N{RIGHT-TO-LEFT OVERRIDE}evil"


def words_of(body: bytes) -> str:
    """Returns the text that a page shows, on one line."""
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", body.decode())).split())


def positions_in(body: bytes) -> list[int]:
    return [int(each) for each in re.findall(rb'<tr id="p(\d+)"', body)]


class Anywhere:
    """Stands for the place of a page."""

    def url(self, *path: object) -> str:
        return quote("/".join(map(str, path)))


async def shown(site: Site, path: str, caller: str = "admin") -> bytes:
    answer = await site.get(path, caller)
    assert answer.status == 200, answer.body.decode()
    return answer.body


async def redirected(site: Site, method: str, path: str, caller: str) -> str:
    """Returns where an answer leads, without going there."""
    headers = site.identity(path, caller) | {"Content-Type": "application/x-www-form-urlencoded"}
    answer = await site.client.request(method, path, headers=headers, allow_redirects=False)
    assert answer.status == 303, await answer.text()
    return answer.headers["Location"]


async def test_the_log_shows_the_newest_entries_first_and_leads_to_older_ones(fleet: Site) -> None:
    await fleet.report(*[{"version": "1.0.1", "report_id": f"r{n}"} for n in range(60)])
    size = int((await fleet.get(f"{P}/events?limit=1")).headers["Firmtrail-Log-Size"])
    first = await shown(fleet, LOG)
    assert positions_in(first) == list(range(size - 1, size - 1 - log.ENTRIES, -1))
    [older] = re.findall(rb'href="([^"]+)" rel="next"', first)
    second = await shown(fleet, html.unescape(older.decode()))
    assert positions_in(first)[-1] - 1 == positions_in(second)[0]
    assert b'rel="next"' not in await shown(fleet, f"{LOG}?below=10")


FILTERS: dict[str, set[str]] = {  # a query -> names of things that its entries are about
    "subject=device/d1": {"d1"},
    "subject=release/": {"m 1.0.0", "m 1.1.0", "m 1.2.0"},
    "type=ReleaseAdded": {"m 1.0.0", "m 1.1.0", "m 1.2.0"},
    "actor=device/d1": set(),
    "since=2000-01-01T00:00&subject=device/d2": {"d2"},
    "until=2000-01-01": set(),
    "type=&subject=device/d2&since=&actor=": {"d2"},
}


async def test_each_filter_is_in_the_address(fleet: Site) -> None:
    for query, wanted in FILTERS.items():
        body = await shown(fleet, f"{LOG}?{query}")
        rows = re.findall(rb"</td>\s*<td>(.*?)</td>", body)
        named = [words_of(row).split()[: 2 if b"releases" in row else 1] for row in rows]
        assert wanted <= {" ".join(words) for words in named}, query
        assert bool(positions_in(body)) == bool(wanted), query


@pytest.mark.one_back_end
@pytest.mark.parametrize(
    "query",
    [
        "type=Frobnicated",
        "since=yesterday",
        "subject=pump",
        "below=-1",
        "since=2026-02-30",
        "log=0",
    ],
)
async def test_a_filter_that_means_nothing_is_refused_with_a_page(fleet: Site, query: str) -> None:
    answer = await fleet.get(f"{LOG}?{query}")
    assert answer.status == 422
    assert answer.headers["Content-Type"].startswith("text/html")


async def test_an_entry_is_shown_in_words_and_byte_for_byte(fleet: Site) -> None:
    await fleet.report({"version": "1.1.0", "status": "failed", "detail": HOSTILE})
    newest = positions_in(await shown(fleet, LOG))[0]
    body = await shown(fleet, f"{LOG}/1/{newest}")
    entry = (await fleet.get(f"{P}/events/{newest}")).body.decode()
    [pre] = re.findall(r'<pre id="entry">(.*?)</pre>', body.decode(), re.DOTALL)
    assert html.unescape(pre) == entry
    words = words_of(body)
    assert "d1 failed on 1.1.0 ." in words
    assert "the device itself" in words
    assert HOSTILE in words
    assert b"<script>alert" not in body
    assert b'data-log="1" data-position="' + str(newest).encode() in body
    for position in (newest + 1, "x", "-1"):
        assert (await fleet.get(f"{LOG}/1/{position}")).status == 404
    assert (await fleet.get(f"{LOG}/2/0")).status == 404


async def test_an_entry_names_people_and_tokens(site: Site) -> None:
    body = words_of(await shown(site, f"{LOG}?subject=user/"))
    assert "viewer@example.org became viewer" in body
    body = words_of(await shown(site, f"{LOG}?type=TokenIssued"))
    assert "of viewer@example.org was issued with the role viewer" in body
    issued = positions_in(await shown(site, f"{LOG}?type=TokenIssued"))[-1]
    words = words_of(await shown(site, f"{LOG}/1/{issued}"))
    assert re.search(r"Holder \w+@example\.org", words)


@pytest.mark.parametrize(
    ("event", "by"),
    [
        (RolloutPaused(failed=1, installed=2), "the service"),
        (RolloutPaused(), "the command line"),
        (RolloutStarted("1.0.0", "m", 100, release_position=5), "the service"),
        (RolloutStarted("1.0.0", "m", 100), "the command line"),
        (WebhookChanged(enabled=False, disabled_for="gone"), "the service"),
        (WebhookChanged(enabled=False), "the command line"),
        (RolloutPhaseMet(0, 1, 0), "the service"),
        (SettingsChanged(), "the command line"),
    ],
)
def test_an_entry_says_whether_the_service_or_its_operator_caused_it(event: Event, by: str) -> None:
    """Both are the actor `system`: a command without a token, and the service on its own."""
    recorded = Recorded(5, NOON_MS, "project/acme", "s.1", "system", event)
    wording = Wording(Anywhere(), {}, {})  # type: ignore[arg-type] # only its links are used
    assert wording.actor(recorded) == by


async def test_a_moment_of_the_past_shows_only_what_the_log_had(fleet: Site) -> None:
    assert positions_in(await shown(fleet, f"{LOG}?as_of=@3")) == [2, 1, 0]
    body = await shown(fleet, f"{LOG}/1/2?as_of=@3")
    assert b'rel="next"' not in body
    assert (await fleet.get(f"{LOG}/1/3?as_of=@3")).status == 404
    assert "This page has no past" in words_of(await shown(fleet, f"{AUDIT}?as_of=@3"))


async def test_a_text_is_erased_after_a_page_that_shows_it(fleet: Site) -> None:
    await fleet.report({"version": "1.1.0", "status": "failed", "detail": "Ann, 0151 2345"})
    newest = positions_in(await shown(fleet, LOG))[0]
    page, erase = f"{LOG}/1/{newest}", f"{LOG}/1/{newest}/erase"
    assert b"/erase" in await shown(fleet, page)
    assert b"/erase" not in await shown(fleet, page, "auditor")
    assert "0151 2345" in words_of(await shown(fleet, erase))
    for caller in ("auditor", "operator"):
        assert (await fleet.get(erase, caller)).status == 403
        assert (await fleet.call("POST", erase, caller=caller)).status == 403
    assert await redirected(fleet, "POST", erase, "admin") == page
    assert "erased; its hash stays" in words_of(await shown(fleet, page))
    assert (await fleet.get(erase)).status == 404
    assert "the text of the event at position" in words_of(await shown(fleet, LOG))


async def test_only_those_that_may_audit_read_the_log(fleet: Site) -> None:
    for path in (LOG, f"{LOG}/1/0", AUDIT, "/console/acme/tlog/1/checkpoint"):
        for caller in ("viewer", "operator", "gateway"):
            assert (await fleet.get(path, caller)).status == 403, (path, caller)
        for nobody in ("device", None):
            answer = await fleet.call("GET", path, caller=nobody)
            assert (answer.status, answer.headers["Location"][:16]) == (303, "/console/sign-in")
        assert (await fleet.get(path, "stranger")).status == 404
        assert (await fleet.get(path, "auditor")).status in {200, 404}


async def test_each_look_at_the_log_is_recorded(fleet: Site) -> None:
    await shown(fleet, f"{LOG}?subject=release/", "auditor")
    await shown(fleet, f"{LOG}/1/5", "auditor")
    for _ in range(3):
        await shown(fleet, f"{LOG}?part=entries", "auditor")
    newest = await records(fleet)
    assert [each["path"] for each in newest[:3]] == [
        "/log",
        "/log/1/5",
        "/log",
    ]
    assert newest[0]["asked"] == {"log": 1, "live": True}
    assert newest[2]["asked"]["subject"] == "release/"


async def test_the_audit_page_shows_reads_and_exports(fleet: Site) -> None:
    await fleet.get(f"{P}/devices?failing=true", "auditor", Accept="text/csv")
    await fleet.get("/console/acme/devices.csv?model=m", "auditor")
    await fleet.get(f"{P}/events", "auditor")
    words = words_of(await shown(fleet, AUDIT))
    assert "took the list devices failing yes" in words
    assert "read the log log 1 , from 0 , to " in words
    only = words_of(await shown(fleet, f"{AUDIT}?kind=exports"))
    assert "took the list devices failing yes" in only
    assert "took the list devices.csv model m" in only
    assert "read the log log 1" not in only
    assert "Nothing matches" in words_of(await shown(fleet, f"{AUDIT}?until=2000-01-01"))


async def test_the_record_of_reads_has_pages(fleet: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "READS", 3)
    monkeypatch.setattr(audit, "LOOKED_AT", 2)
    for n in range(7):
        await fleet.get(f"{P}/events/{n}", "auditor")
        await fleet.get(f"{P}/devices?limit={n + 1}", "auditor", Accept="text/csv")
    for kind, count in (("", 14), ("reads", 7), ("exports", 7)):
        found, path = 0, f"{AUDIT}?kind={kind}"
        while path:
            body = await shown(fleet, path)
            found += len(re.findall(r"auditor@example\.org</(?:bdi|span)>", body.decode()))
            links = re.findall(r'rel="next" href="([^"#]+)', body.decode())
            path = html.unescape(links[0]) if links else ""
        assert found == count


async def test_the_bar_leads_to_a_moment_of_a_page_of_the_project(fleet: Site) -> None:
    at = "/console/acme?as_of=2026-03-14"
    for query, location in (
        ("page=/console/acme/log&position=3", f"{LOG}?as_of=%403"),
        ("page=/console/acme/log%3Ftype%3DX%26as_of%3D1&when=", f"{LOG}?type=X"),
        ("page=/console/acme&when=2026-03-14", f"{at}T00%3A00%3A00Z"),
        ("page=/console/acme&when=2026-03-14T09:30", f"{at}T09%3A30%3A00Z"),
        ("page=/console/acme&when=2026-03-14T09:30:07", f"{at}T09%3A30%3A07Z"),
        ("page=/console/acme/log&position=999999", LOG),
        ("page=/console/other&position=3", "/console/acme?as_of=%403"),
        ("page=/console/acme2&position=3", "/console/acme?as_of=%403"),
        ("page=/console/acme/../other&position=3", "/console/acme?as_of=%403"),
        ("page=//evil.example/console/acme&position=3", "/console/acme?as_of=%403"),
        ("page=//[&position=3", "/console/acme?as_of=%403"),
        ("page=//x:99999/", "/console/acme"),
        ("page=//x:abc/", "/console/acme"),
    ):
        found = await redirected(fleet, "GET", f"/console/acme/moment?{query}", "viewer")
        assert found == location, query
    for query in ("page=https://evil.example/", "page=", "page=/console/acme&when=never"):
        assert (await fleet.get(f"/console/acme/moment?{query}")).status == 422


async def test_a_page_of_the_past_says_which_day_that_was(fleet: Site) -> None:
    await post(fleet, "halt", {"reason": "a bad night"})
    words = words_of(await shown(fleet, "/console/acme?as_of=@3"))
    assert re.search(r"As known at position 3 ?, \d+ \w+ 20\d\d Nothing can be changed", words)


def test_a_sentence_names_only_members_of_its_event() -> None:
    for name, sentence in SENTENCES.items():
        event = TYPES.get(name.partition(".")[0])
        if event is not None:
            members = {field.name for field in msgspec.structs.fields(event)}
            named = {member for _, member, _, _ in Formatter().parse(sentence) if member}
            assert named <= members | {"subject", "members", "percent"}, name


def test_an_event_without_a_sentence_is_named_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    class PumpRinsed(DeviceChanged, frozen=True):
        """Records nothing that this version knows."""

    wording = Wording(Anywhere(), {}, {})  # type: ignore[arg-type] # only its links are used
    recorded = Recorded(1, NOON_MS, "device/d<1>", "s.1", "system", PumpRinsed())
    sentence = wording.sentence(recorded)
    assert sentence == '<a class="mono" href="devices/d%3C1%3E">d&lt;1&gt;</a>: pump rinsed'


def test_facts_are_the_members_that_were_set() -> None:
    facts = dict(facts_of(DeviceChanged(model=None, tags=("a", "b"))))
    assert set(facts) == {"model", "tags"}
    assert facts["model"] == "none"
    assert dict(facts_of(RolloutAdvanced(1_250, "hash"))) == {"reach": "12.50\u202f%"}
    assert dict(facts_of(SettingsChanged(follow_latest=False))) == {"follow latest": "no"}
    failed = UpdateFailed("1.0.0", status="failed", occurred_at="2026-03-14T09:30:00Z")
    assert "2026-03-14 09:30:00.000" in dict(facts_of(failed))["occurred at"]


def shown_facts(event: Event) -> dict[str, str]:
    """Returns the facts of an event as a person reads them."""
    return {label: value.striptags() for label, value in facts_of(event)}


NIGHT = Window("0 2 * * MON-FRI", 5_400, "Europe/Berlin")
PLAN = (
    PlanPhase(100, 86_400, 95, 50),
    PlanPhase(2_500, 3_600),
    PlanPhase(5_000),
    PlanPhase(10_000),
)
PLAN_WORDS = (
    "1 % until 95 % of at least 50 outcomes are installs, for 1 d at least, then 25 % for 1 h, "
    "then 50 % until a person begins the next, then 100 %"
)
NIGHT_WORDS = "opens at 0 2 * * MON-FRI for 1 h 30 min, Europe/Berlin"


def test_plans_and_windows_are_facts_in_words() -> None:
    facts = shown_facts(RolloutStarted("1.0.0", "m", 100, "s", plan=PLAN, window=NIGHT))
    assert (facts["plan"], facts["window"]) == (PLAN_WORDS, NIGHT_WORDS)


def test_maps_of_settings_are_facts_in_words() -> None:
    facts = shown_facts(
        SettingsChanged(
            window=None,
            model_windows={},
            cohort_windows={"<north>": Window("0 2 * * *", 60, "device")},
            auto_rollout={"m": AutoRollout(PLAN[2:], NIGHT, 5, 20), "n": AutoRollout()},
            artifact_names={"native": ".bin", "plain": ".zip"},
        )
    )
    assert facts == {
        "window": "none",
        "model windows": "none",
        "cohort windows": "<north>: opens at 0 2 * * * for 1 min, by the clock of each device",
        "auto rollout": f"m: 50 % until a person begins the next, then 100 %, {NIGHT_WORDS}, "
        "pauses when more than 5 % of at least 20 outcomes fail; n: without a plan",
        "artifact names": "native: .bin; plain: .zip",
    }


async def test_the_first_entry_says_that_the_project_was_created(fleet: Site) -> None:
    body = words_of(await shown(fleet, f"{LOG}/1/0"))
    assert "the project was created" in body
    assert "{}" not in body.partition("What is hashed")[0]
