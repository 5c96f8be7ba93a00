"""Checks the Containerfile and the Helm chart with other people's tools.

Apart from the suite, as `make check-deploy`: the tools take 400 MB.
"""

import subprocess
import sys
from pathlib import Path
from typing import Any

import helm_python
import kubernetes_validate
import pytest
import yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy" / "helm" / "firmtrail"
BUCKETS = {"checkpoints": "s3://bucket/checkpoints", "artifacts": "s3://bucket/artifacts"}
EVERYTHING = BUCKETS | {
    "trustedProxies": ["10.0.0.0/8", "192.168.0.0/16"],
    "options": ["--protocols", "native,hawkbit"],
    "environmentSecret": "bucket",
    "imagePullSecrets": [{"name": "registry"}],
    "ingress": {
        "enabled": True,
        "host": "fleet.example.org",
        "tlsSecret": "tls",
        "className": "nginx",
    },
    "networkPolicy": {"enabled": True, "from": [{"podSelector": {}}]},
    "serviceMonitor": {"enabled": True},
    "nodeSelector": {"disk": "ssd"},
    "tolerations": [{"operator": "Exists"}],
}
RELEASES = ("1.29", "1.37")
"""The oldest and the newest Kubernetes that the chart is checked against."""


def rendered(values: dict[str, Any]) -> list[dict[str, Any]]:
    with helm_python.Chart.load(CHART) as chart:
        chart.validate_schema(values)
        manifests = chart.render(values=values, name="trial", namespace="fleet")
    texts = [text for path, text in manifests.items() if path.endswith(".yaml")]
    return [each for text in texts for each in yaml.safe_load_all(text) if each is not None]


def test_the_containerfile_has_no_findings() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run(
        [hadolint, ROOT / "deploy" / "Containerfile"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("values", [BUCKETS, EVERYTHING], ids=["least", "everything"])
def test_the_chart_renders_what_kubernetes_accepts(values: dict[str, Any], release: str) -> None:
    found = rendered(values)
    kinds = [each["kind"] for each in found]
    assert {"Deployment", "Job", "Service", "PodDisruptionBudget"} <= set(kinds)
    if values is EVERYTHING:
        assert {"Ingress", "NetworkPolicy", "ServiceMonitor"} <= set(kinds)
    for each in found:
        if each["kind"] != "ServiceMonitor":  # a type of the Prometheus operator
            kubernetes_validate.validate(each, release, strict=True)


def test_every_container_of_the_chart_has_no_rights() -> None:
    for each in rendered(EVERYTHING):
        if each["kind"] in {"Deployment", "Job"}:
            pod = each["spec"]["template"]["spec"]
            assert pod["securityContext"]["runAsNonRoot"] is True
            assert pod["automountServiceAccountToken"] is False
            for container in pod["containers"]:
                confined = container["securityContext"]
                assert confined["readOnlyRootFilesystem"] is True
                assert confined["capabilities"] == {"drop": ["ALL"]}


def test_a_server_is_given_the_time_that_it_needs_to_stop() -> None:
    [deployment] = [each for each in rendered(BUCKETS) if each["kind"] == "Deployment"]
    pod = deployment["spec"]["template"]["spec"]
    assert "--drain-delay=15" in pod["containers"][0]["args"]
    assert pod["terminationGracePeriodSeconds"] == 45


@pytest.mark.parametrize(
    "values",
    [{}, BUCKETS | {"checkpoints": "/data"}, BUCKETS | {"replicas": 0}, BUCKETS | {"workers": "2"}],
)
def test_values_that_can_not_work_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(helm_python.HelmError):
        rendered(values)
