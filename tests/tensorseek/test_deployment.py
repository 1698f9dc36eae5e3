"""Laws of the deployment files: valid by their own schemas, and true to the program they start.

No engine and no cluster runs here: these are the checks that need none.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import grpc
import kubernetes_validate
import msgspec
import pytest
import yaml

from protos import inference_pb2
from protos.inference_pb2_grpc import InferenceStub

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"
DOCKERFILES = sorted([*DOCKER.glob("*.Dockerfile"), DOCKER / "Dockerfile"])
OVERLAYS = ("gpu", "secure")  # patches, which are no whole objects
MANIFESTS = sorted(
    path for path in (DOCKER / "kubernetes").rglob("*.yaml") if not set(path.parts) & set(OVERLAYS)
)
SECRETS = ("keys.yaml", "tls.crt", "tls.key", "registry.json", "training.env")
KUBERNETES = "1.33"
BASE = DOCKER / "kubernetes" / "base"


def documents(path: Path) -> list[dict[str, Any]]:
    return [each for each in yaml.safe_load_all(path.read_text()) if each]


def tool(name: str) -> str:
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    assert found, f"{name} is not installed"
    return found


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_a_dockerfile_passes_hadolint(path: Path) -> None:
    done = subprocess.run(
        [tool("hadolint"), str(path)], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_an_image_runs_as_no_root_and_says_how_it_is(path: Path) -> None:
    text = path.read_text()
    assert re.search(r"^USER (?!0|root)", text, re.MULTILINE)
    assert "HEALTHCHECK" in text
    for base in re.findall(r"^(?:FROM|ARG \w+=) ?(\S+:\S+)", text, re.MULTILINE):
        assert re.search(r":v?\d+\.\d+", base), f"{base} is not pinned"


def test_an_image_copies_what_is_there_and_its_installation_can_be_run_without_an_engine() -> None:
    from benchmarks import image_install

    stages = image_install.read(image_install.DOCKERFILE.read_text())
    assert set(image_install.IMAGES) <= set(stages)
    for stage in stages.values():
        for step, rest in stage.steps:
            if step == "COPY" and not rest.startswith("--from="):
                assert all((ROOT / name).exists() for name in rest.split()[:-1])


def test_compose_fits_its_schema() -> None:
    command = [tool("check-jsonschema"), "--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run(
        [*command, str(DOCKER / "compose.yaml")],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout


def test_compose_publishes_on_loopback_only_and_mounts_what_is_there() -> None:
    (compose,) = documents(DOCKER / "compose.yaml")
    for name, service in compose["services"].items():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ())), name
        for mount in service.get("volumes", ()):
            source = mount.split(":")[0]
            assert source.startswith("${MODELS") or (
                source in compose["volumes"] or (DOCKER / source).exists()
            )


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_a_kubernetes_manifest_fits_its_schema(path: Path) -> None:
    for document in documents(path):
        kind = document["apiVersion"].split("/")[0]
        if kind in {"kustomize.config.k8s.io", "kubeflow.org"}:
            continue  # no part of Kubernetes itself
        kubernetes_validate.validate(document, KUBERNETES, strict=True)


@pytest.fixture
def kubernetes(tmp_path: Path) -> Path:
    """The manifests, with a placeholder for each secret."""
    folder = Path(shutil.copytree(DOCKER / "kubernetes", tmp_path / "kubernetes"))
    secrets = folder / "secure" / "secrets"
    shutil.rmtree(secrets, ignore_errors=True)  # a person's own
    secrets.mkdir()
    for name in SECRETS:
        (secrets / name).write_text("NAME=placeholder" if name.endswith(".env") else "{}")
    return folder


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_an_overlay_builds_into_valid_objects(overlay: str, kubernetes: Path) -> None:
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed")
    done = subprocess.run(
        ["kubectl", "kustomize", str(kubernetes / overlay)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    objects = [each for each in yaml.safe_load_all(done.stdout) if each]
    for each in objects:
        kubernetes_validate.validate(each, KUBERNETES, strict=True)
    (gateway,) = (
        each
        for each in objects
        if (each["kind"], each["metadata"]["name"]) == ("Deployment", "gateway")
    )
    volumes = {volume["name"] for volume in gateway["spec"]["template"]["spec"]["volumes"]}
    assert volumes >= ({"keys", "tls", "config"} if overlay == "secure" else {"models"})


def test_every_secret_is_made_of_a_file_that_git_never_takes() -> None:
    folder = DOCKER / "kubernetes" / "secure"
    (found,) = documents(folder / "kustomization.yaml")
    named = [
        entry.rpartition("=")[2]
        for secret in found["secretGenerator"]
        for entry in (*secret.get("files", ()), *secret.get("envs", ()))
    ]
    assert sorted(named) == sorted(f"secrets/{name}" for name in SECRETS)
    for name in named:
        ignored = subprocess.run(["git", "check-ignore", "-q", str(folder / name)], check=False)
        assert ignored.returncode == 0, name


def test_the_secure_gateway_reads_what_its_secrets_are_mounted_as(tmp_path: Path) -> None:
    from serving.gateway import access, config_file
    from serving.gateway.config_file import Source

    folder = DOCKER / "kubernetes" / "secure"
    text = (folder / "config" / "gateway.yaml").read_text()
    patch, *_ = documents(folder / "gateway.yaml")
    (container,) = patch["spec"]["template"]["spec"]["containers"]
    for mount in container["volumeMounts"]:
        place = tmp_path / mount["name"]
        place.mkdir()
        text = text.replace(mount["mountPath"], str(place))
    (tmp_path / "gateway.yaml").write_text(text.replace("/models", str(tmp_path)))
    access.add(tmp_path / "keys" / "keys.yaml", "someone")
    for name in ("tls.crt", "tls.key"):
        (tmp_path / "tls" / name).write_text("")
    config = Source(tmp_path / "gateway.yaml").load()
    assert config.keys is not None
    assert config.tls is not None
    config_file.check(msgspec.structs.replace(config, tls=None))


def test_kustomize_names_every_manifest_and_every_image() -> None:
    (found,) = documents(BASE / "kustomization.yaml")
    others = {path.name for path in BASE.glob("*.yaml")} - {"kustomization.yaml"}
    assert set(found["resources"]) == others
    used = {container["image"] for _, container in containers()}
    assert used == {image["name"] for image in found["images"]}


def containers() -> Iterator[tuple[str, Mapping[str, Any]]]:
    for path in BASE.glob("*.yaml"):
        for document in documents(path):
            if document["kind"] == "Deployment":
                spec = document["spec"]["template"]["spec"]
                for container in (*spec.get("initContainers", ()), *spec["containers"]):
                    yield document["metadata"]["name"], container


def test_every_container_is_confined_and_bounded() -> None:
    for name, container in containers():
        assert container["securityContext"]["allowPrivilegeEscalation"] is False, name
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}, name
        assert "memory" in container["resources"]["limits"], name


def commands() -> Iterator[list[str]]:
    """What the files have our command line do."""
    text = (DOCKER / "Dockerfile").read_text()
    for entry, command in re.findall(r"^ENTRYPOINT (\[.*\])\nCMD (\[.*\])", text, re.MULTILINE):
        yield [*json.loads(entry), *json.loads(command)]
    (compose,) = documents(DOCKER / "compose.yaml")
    config = compose["services"]["config"]
    yield [*config["entrypoint"], *config["command"]]
    starts = {"gateway": ["tensorseek", "serve", "gateway"], "demo": ["tensorseek", "demo"]}
    for name, container in containers():
        if container["name"] == "config":
            yield [*container["command"], *container["args"]]
        elif name in starts:
            yield [*starts[name], *container["args"]]
    (job,) = documents(DOCKER / "kubernetes" / "train.yaml")
    worker = job["spec"]["tfReplicaSpecs"]["Worker"]["template"]["spec"]["containers"][0]
    yield ["tensorseek", *worker["args"]]


@pytest.mark.parametrize("command", list(commands()), ids=" ".join)
def test_our_command_line_takes_what_a_file_starts_it_with(
    command: list[str], check_parses: Callable[[list[str]], None]
) -> None:
    program, *arguments = command
    assert program == "tensorseek"
    if "--help" not in arguments:
        check_parses(arguments)


@pytest.fixture
def metric_names(up: Any) -> set[str]:
    """What a gateway tells Prometheus after one call of each kind."""
    import urllib.request

    with grpc.insecure_channel(f"127.0.0.1:{up.ports.gateway}") as channel:
        request = inference_pb2.PredictRequest(
            model="tiny", inputs=[inference_pb2.Input(text="a good film")]
        )
        InferenceStub(channel).Predict(request, timeout=20)
    url = f"http://127.0.0.1:{up.ports.http}/metrics"
    text = urllib.request.urlopen(url, timeout=20).read().decode()
    # One with labels has no sample before there is something to say.
    return set(re.findall(r"^(?:# TYPE )?([a-z_]+)(?:\{| )", text, re.MULTILINE))


def expressions() -> Iterator[str]:
    dashboard = json.loads((DOCKER / "grafana" / "dashboards" / "tensorseek.json").read_text())
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            yield target["expr"]
    (rules,) = documents(DOCKER / "prometheus" / "alerts.yml")
    for group in rules["groups"]:
        for rule in group["rules"]:
            yield rule["expr"]


def test_every_metric_of_dashboard_and_alerts_exists_in_a_live_gateway(
    metric_names: set[str],
) -> None:
    asked = {
        name
        for text in expressions()
        for name in re.findall(r"\b((?:tensorseek|process)_[a-z_]+)", text)
    }
    assert asked
    assert asked <= metric_names


def test_dashboard_panels_do_not_overlap_and_ask_a_question() -> None:
    dashboard = json.loads((DOCKER / "grafana" / "dashboards" / "tensorseek.json").read_text())
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
        assert panel["title"].endswith("?")
        assert panel["description"]


def test_prometheus_asks_where_the_backend_is_told_to_answer() -> None:
    from serving import tfs_config

    (found,) = documents(DOCKER / "prometheus" / "prometheus.yml")
    jobs = {job["job_name"]: job for job in found["scrape_configs"]}
    assert jobs["backend"]["metrics_path"] == tfs_config.METRICS_PATH
    assert found["rule_files"] == ["alerts.yml"]
