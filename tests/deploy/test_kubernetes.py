"""The files for Kubernetes say what its API takes, and run the processes there are as little privileged as can be."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.lacking import lacking
from twinvec_client.contract.broker import LANES

FOLDER = Path(__file__).parents[2] / "deploy" / "kubernetes"
KUSTOMIZATIONS = sorted(path.parent for path in FOLDER.rglob("kustomization.yaml"))
OVERLAYS = ("cpu", "gpu", "all")  # the last is made of the first and every component
VERSIONS = ("1.32", "1.36")
# What KEDA 2 knows of a ScaledObject, as far as it is used here.
SCALED_OBJECT: dict[str, type | set[str]] = {
    "scaleTargetRef": {"name", "kind", "apiVersion"},
    "pollingInterval": int,
    "cooldownPeriod": int,
    "minReplicaCount": int,
    "maxReplicaCount": int,
    "advanced": {"horizontalPodAutoscalerConfig", "restoreToOriginalReplicaCount", "scalingModifiers"},
    "triggers": list,
}

Manifest = dict[str, Any]


@cache
def rendered(overlay: str) -> list[Manifest]:
    """The manifests of an overlay, as `kubectl kustomize` makes them."""
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        lacking("kubectl, which renders them")
    with tempfile.TemporaryDirectory() as copied:
        here = Path(shutil.copytree(FOLDER, Path(copied, "kubernetes")))
        shutil.copytree(here / "overlays" / "cpu", here / "overlays" / "all")
        with (here / "overlays" / "all" / "kustomization.yaml").open("a") as file:
            file.write("components: [../../components/scaling, ../../components/page]\n")
        command = [kubectl, "kustomize", str(here / "overlays" / overlay)]
        made = subprocess.run(command, capture_output=True, text=True, check=True)
    return list(yaml.safe_load_all(made.stdout))


def of_kind(manifests: list[Manifest], *kinds: str) -> Iterator[Manifest]:
    return (each for each in manifests if each["kind"] in kinds)


def pods(overlay: str) -> dict[str, Manifest]:
    """The pod's specification of each Deployment and Job, by its name."""
    found = of_kind(rendered(overlay), "Deployment", "Job")
    return {each["metadata"]["name"]: each["spec"]["template"]["spec"] for each in found}


def files_of(kustomization: Path) -> dict[str, list[str]]:
    """What a kustomization names in its own folder and elsewhere, by the kind of thing it is."""
    said = yaml.safe_load((kustomization / "kustomization.yaml").read_text())
    return {
        "resources": said.get("resources", []) + said.get("components", []),
        "patches": [patch["path"] for patch in said.get("patches", [])],
    }


@pytest.mark.parametrize("folder", KUSTOMIZATIONS, ids=lambda path: path.name)
def test_a_kustomization_names_what_is_there_and_leaves_nothing_out(folder: Path) -> None:
    named = {name for names in files_of(folder).values() for name in names}
    assert [name for name in named if not (folder / name).exists()] == []
    assert {path.name for path in folder.glob("*.yaml")} == {
        *(name for name in named if name.endswith(".yaml")),
        "kustomization.yaml",
    }


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize("version", VERSIONS)
def test_what_is_applied_matches_the_published_schemas(overlay: str, version: str) -> None:
    for manifest in rendered(overlay):
        if manifest["kind"] == "ScaledObject":
            continue  # KEDA's
        kubernetes_validate.validate(manifest, version, strict=True)


@pytest.mark.parametrize("wrong", [{"replica": 2}, {"replicas": "2"}])
def test_a_wrong_field_is_noticed(wrong: Manifest) -> None:
    (front,) = (each for each in of_kind(rendered("cpu"), "Deployment") if "front" in str(each))
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate({**front, "spec": front["spec"] | wrong}, VERSIONS[-1], strict=True)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_workers_serve_every_lane_and_no_other(overlay: str) -> None:
    arguments = [spec["containers"][0]["args"] for spec in pods(overlay).values()]
    lanes = [words[words.index("--lanes") + 1] for words in arguments if "--lanes" in words]
    assert sorted(",".join(lanes).split(",")) == sorted(LANES)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_pod_meets_the_restricted_standard(overlay: str) -> None:
    """As the Pod Security Standards have it, and the root file system cannot be written to."""
    for name, spec in pods(overlay).items():
        said = spec["securityContext"]
        assert (said["runAsNonRoot"], said["seccompProfile"]["type"]) == (True, "RuntimeDefault"), name
        assert said["runAsUser"] > 0, name
        assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys(), name
        assert all("emptyDir" in volume for volume in spec["volumes"]), name
        assert spec["automountServiceAccountToken"] is False, name
        for container in [*spec["containers"], *spec.get("initContainers", [])]:
            own = container["securityContext"]
            assert own["allowPrivilegeEscalation"] is False, name
            assert own["capabilities"] == {"drop": ["ALL"]}, name
            assert own["readOnlyRootFilesystem"] is True, name
            assert "privileged" not in own, name


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_passwords_come_from_secrets(overlay: str) -> None:
    manifests = rendered(overlay)
    assert list(of_kind(manifests, "Secret")) == []
    for spec in pods(overlay).values():
        for variable in spec["containers"][0]["env"]:
            if variable["name"].endswith("_URL"):
                assert variable["valueFrom"]["secretKeyRef"].keys() == {"name", "key"}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_memory_is_limited_and_workers_are_probed(overlay: str) -> None:
    for name, spec in pods(overlay).items():
        (container,) = spec["containers"]
        assert "memory" in container["resources"]["limits"], name
        if "migrate" not in container["args"]:
            assert {"readinessProbe", "livenessProbe"} <= container.keys(), name
        if container["args"][0] in ("worker", "beat"):
            assert "startupProbe" in container, name
            assert spec["terminationGracePeriodSeconds"] >= 60, name


def test_one_scheduler_runs_at_a_time() -> None:
    (beat,) = (each for each in of_kind(rendered("cpu"), "Deployment") if "beat" in str(each))
    assert (beat["spec"]["replicas"], beat["spec"]["strategy"]) == (1, {"type": "Recreate"})


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_budgets_and_the_network_policy_are_about_pods_that_exist(overlay: str) -> None:
    manifests = rendered(overlay)
    labels = [each["spec"]["template"]["metadata"]["labels"] for each in of_kind(manifests, "Deployment", "Job")]
    for budget in of_kind(manifests, "PodDisruptionBudget"):
        wanted = budget["spec"]["selector"]["matchLabels"].items()
        assert sum(wanted <= each.items() for each in labels) == 1, budget["metadata"]["name"]
    policies = list(of_kind(manifests, "NetworkPolicy"))
    chosen = [each["spec"]["podSelector"]["matchLabels"].items() for each in policies]
    assert all(sum(wanted <= each.items() for wanted in chosen) == 1 for each in labels)


def test_embedders_are_scaled_by_the_backlog() -> None:
    """Their number is then KEDA's alone."""
    manifests = rendered("all")
    (scaling,) = of_kind(manifests, "ScaledObject")
    assert scaling["apiVersion"] == "keda.sh/v1alpha1"
    for name, value in scaling["spec"].items():
        known = SCALED_OBJECT[name]
        assert value.keys() <= known if isinstance(known, set) else isinstance(value, known), name
    (trigger,) = scaling["spec"]["triggers"]
    assert trigger.keys() == {"type", "metadata"}
    assert all(isinstance(value, str) for value in trigger["metadata"].values())
    assert {"serverAddress", "query", "threshold"} <= trigger["metadata"].keys()
    assert "twinvec_backlog_digits" in trigger["metadata"]["query"]
    target = scaling["spec"]["scaleTargetRef"]["name"]
    (deployment,) = (each for each in of_kind(manifests, "Deployment") if each["metadata"]["name"] == target)
    assert "replicas" not in deployment["spec"]
