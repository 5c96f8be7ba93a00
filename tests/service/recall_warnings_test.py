"""Tries rollbacks that are probably not meant as written."""

from tests.service.site import Site
from tests.service.steered import post


async def test_a_dry_run_of_a_rollback_warns_of_mistyped_versions_and_of_repetitions(
    fleet: Site,
) -> None:
    async def warnings(model: str = "m", bad: str = "1.0.0", **members: str) -> list[str]:
        wanted = {"bad_version": bad, "model": model, "dry_run": True, **members}
        found: list[str] = (await post(fleet, "rollbacks", wanted)).json.get("warnings", [])
        return found

    assert await warnings() == []
    nothing = "No device of m runs 9.9.9 now, and there is no such release."
    assert await warnings(bad="9.9.9") == [nothing]
    assert await warnings(bad="1.2.0") == ["No device of m runs 1.2.0 now."]
    assert await warnings("pumpx") == [
        "No device of pumpx runs 1.0.0 now, and there is no such release."
    ]
    assert await warnings(cohort="c") == ["No device of m in cohort c runs 1.0.0 now."]
    wanted = {"bad_version": "9.9.9", "model": "m", "reason": "smoke"}
    first = (await post(fleet, "rollbacks", {**wanted, "cohort": "c"})).json["rollout"]
    assert await warnings(bad="9.9.9") == [nothing]
    again = await warnings(bad="9.9.9", cohort="c")
    assert again[1:] == [f"A recall of 9.9.9 is under way already: {first}."]
    whole = (await post(fleet, "rollbacks", wanted)).json["rollout"]
    await post(fleet, f"rollouts/{whole}/pause")
    for members in ({}, {"tag": "t"}):
        again = await warnings(bad="9.9.9", **members)
        assert again[1:] == [f"A recall of 9.9.9 is paused: {whole}."]
    await post(fleet, f"rollouts/{whole}/abort")
    assert await warnings(bad="9.9.9") == [nothing]


async def test_a_version_that_is_being_recalled_becomes_no_release_and_no_target(
    fleet: Site,
) -> None:
    wanted = {"bad_version": "9.9.9", "model": "m", "reason": "mistyped"}
    recall = (await post(fleet, "rollbacks", wanted)).json["rollout"]
    release = {"model": "m", "version": "9.9.9"}
    refused = await post(fleet, "releases", release)
    assert (refused.status, refused.json["code"]) == (409, "release_recalled")
    assert recall in refused.json["detail"]
    assert (await post(fleet, "releases", {**release, "model": "n"})).status == 201
    await post(fleet, f"rollouts/{recall}/abort")
    assert (await post(fleet, "releases", release)).status == 201
    assert (await post(fleet, "rollouts", release)).status == 201
