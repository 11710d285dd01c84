"""What is in ``deploy/``, against the program it deploys: its commands, settings, ports and times."""

from __future__ import annotations

import base64
import configparser
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from restante.cli.program import app
from restante.config import SETTINGS, load
from restante.keyfiles import load_keyring
from restante.process import LEAVE_SECONDS

PROJECT = Path(__file__).parents[2]
DEPLOY = PROJECT / "deploy"
CONTAINERFILE = (DEPLOY / "container" / "Containerfile").read_text()
KUBERNETES = DEPLOY / "kubernetes"
GUIDE = (PROJECT / "docs" / "deployment.md").read_text()
VARIABLES = {f"RESTANTE_{name.upper()}" for name in SETTINGS}
READY_PATH, HEALTH_PATH = "/readyz", "/healthz"


def documents(path: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(path.read_text()))


def manifest(file: str, kind: str, name: str = "restante") -> dict[str, Any]:
    (found,) = (
        one
        for one in documents(KUBERNETES / file)
        if (one["kind"], one["metadata"]["name"]) == (kind, name)
    )
    return found


def parses(arguments: list[str]) -> None:
    """Our own command line takes them. Raises where it does not."""
    command = get_command(app)
    name, *rest = arguments
    context = command.make_context("restante", [name, *rest], resilient_parsing=False)
    sub = command.get_command(context, name)  # type: ignore[attr-defined]
    assert sub is not None, name
    sub.make_context(name, rest, parent=context)


def image_environment() -> dict[str, str]:
    (block,) = re.findall(r"^ENV ((?:.*\\\n)*.*)$", CONTAINERFILE, re.MULTILINE)
    return dict(word.split("=", 1) for word in shlex.split(block.replace("\\\n", " ")))


def seconds(text: str) -> float:
    number, unit = re.fullmatch(r"(\d+)(s|m)", text).groups()  # type: ignore[union-attr]
    return int(number) * {"s": 1, "m": 60}[unit]


def settings(environment: dict[str, str]) -> Any:
    """What the program makes of an environment: every RESTANTE_* of it is one of its settings."""
    ours = {name for name in environment if name.startswith("RESTANTE_")}
    assert ours <= VARIABLES, ours - VARIABLES
    return load(None, environment, {})


# -- systemd ------------------------------------------------------------------------------------


@pytest.fixture
def unit() -> dict[str, Any]:
    parser = configparser.RawConfigParser(strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(DEPLOY / "systemd" / "restante.service")
    return {name: dict(parser[name]) for name in parser.sections()}


def test_the_unit_runs_a_command_of_ours_and_stops_after_its_drain(unit):
    service = unit["Service"]
    program, *arguments = shlex.split(service["ExecStart"])
    assert Path(program).name == "restante"
    parses(arguments)
    assert float(service["TimeoutStopSec"]) > load(None, {}, {}).shutdown_seconds + LEAVE_SECONDS
    assert service["KillSignal"] == "SIGTERM"
    assert f"/var/lib/{service['StateDirectory']}" in arguments


def test_the_unit_gives_no_more_rights_than_it_takes(unit):
    service = unit["Service"]
    wanted = {
        "DynamicUser": "yes",
        "ProtectSystem": "strict",
        "NoNewPrivileges": "yes",
        "CapabilityBoundingSet": "",
        "Restart": "on-failure",
    }
    assert wanted.items() <= service.items()


# -- the container ------------------------------------------------------------------------------


def test_the_image_has_settings_that_the_program_knows():
    config = settings(image_environment())
    exposed = set(map(int, re.findall(r"^EXPOSE (.*)$", CONTAINERFILE, re.MULTILINE)[0].split()))
    assert {
        config.listen.port,
        config.admin_listen.port,
        config.grpc_listen.port,
    } == exposed
    assert f":{config.admin_listen.port}{HEALTH_PATH}" in CONTAINERFILE
    assert str(config.data) in re.findall(r"^VOLUME (.*)$", CONTAINERFILE, re.MULTILINE)
    parses(yaml.safe_load(re.findall(r"^CMD (\[.*\])$", CONTAINERFILE, re.MULTILINE)[0]))


def test_the_image_has_locked_packages_alone_and_an_ordinary_user():
    for install in re.findall(r"pip install [^\n&]*", CONTAINERFILE):
        assert "--require-hashes" in install or install.endswith("\\"), install
    assert "--no-deps --no-build-isolation" in CONTAINERFILE
    final = CONTAINERFILE.rpartition("\nFROM ")[2]
    (user,) = re.findall(r"^USER (\d+):(\d+)$", final, re.MULTILINE)
    assert "0" not in user
    for lock in ("server", "build"):
        assert f"requirements/{lock}.lock" in CONTAINERFILE
        pins = pinned(lock)
        assert pins.items() <= pinned("dev").items(), "what is tested is what a container holds"
    assert {"asyncpg", "redis", "nats-py", "grpcio", "aiohttp"} <= pinned("server").keys()
    assert pinned("base").items() <= pinned("server").items()


def pinned(lock: str) -> dict[str, str]:
    text = (PROJECT / "requirements" / f"{lock}.lock").read_text()
    return dict(re.findall(r"^([a-z0-9-]+)==([^ ;\\]+)", text, re.MULTILINE))


# -- compose ------------------------------------------------------------------------------------


@pytest.fixture
def compose() -> dict[str, Any]:
    return documents(DEPLOY / "compose" / "compose.yaml")[0]


@pytest.mark.parametrize("node", ["node-1", "node-2"])
def test_composed_nodes_run_as_they_should(compose, node):
    service = compose["services"][node]
    parses(service["command"])
    config = settings(image_environment() | service["environment"])
    grace = seconds(service["stop_grace_period"])
    assert grace > config.shutdown_seconds + LEAVE_SECONDS
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert any(str(config.data) in mount for mount in service["tmpfs"])
    for key_file in (config.secrets_key_file, config.ledger_key_file):
        assert key_file.name in service["secrets"]
        assert key_file.name in compose["secrets"]
    balancer = compose["services"]["balancer"]["networks"]["restante"]["ipv4_address"]
    assert config.trusted_proxies == (f"{balancer}/32",)


def test_the_composed_balancer_is_told_of_each_node(compose):
    config = settings(image_environment())
    told = compose["services"]["balancer"]["environment"]
    file = (DEPLOY / "haproxy" / "restante.cfg").read_text()
    assert set(told) <= set(re.findall(r"RESTANTE_[A-Z0-9_]+", file))
    for node, suffix in (("node-1", ""), ("node-2", "_2")):
        assert told[f"RESTANTE_SERVER{suffix}"] == f"{node}:{config.listen.port}"
        assert told[f"RESTANTE_GRPC{suffix}"] == f"{node}:{config.grpc_listen.port}"
        assert told[f"RESTANTE_ADMIN_HOST{suffix}"] == node
        assert told[f"RESTANTE_ADMIN_PORT{suffix}"] == str(config.admin_listen.port)


def test_everything_that_is_named_in_the_composition_is_there(compose):
    folder = DEPLOY / "compose"
    files = [one["file"] for one in compose["configs"].values() if "file" in one]
    build = compose["services"]["node-1"]["build"]
    context = (folder / build["context"]).resolve()
    assert context == PROJECT
    assert (context / build["dockerfile"]).is_file()
    assert all((folder / file).resolve().is_file() for file in files)
    for service in compose["services"].values():
        assert set(service.get("secrets", ())) <= set(compose["secrets"])
        assert set(service.get("depends_on", ())) <= set(compose["services"])
    # Secrets are the operator's to make: the guide says how.
    made = [one["file"] for one in compose["secrets"].values()]
    made += [one["env_file"] for one in compose["services"].values() if "env_file" in one]
    for file in made:
        assert Path(file).name in GUIDE


# -- Kubernetes ---------------------------------------------------------------------------------


def container() -> dict[str, Any]:
    pod = manifest("deployment.yaml", "Deployment")["spec"]["template"]["spec"]
    (found,) = pod["containers"]
    return found


def test_every_manifest_is_applied_and_says_what_it_is():
    listed = documents(KUBERNETES / "kustomization.yaml")[0]["resources"]
    others = {"kustomization.yaml", "secret.example.yaml"}
    assert {path.name for path in KUBERNETES.glob("*.yaml")} == {*listed, *others}
    for file in listed:
        for document in documents(KUBERNETES / file):
            assert {"apiVersion", "kind", "metadata", "spec"} <= document.keys()


def test_pods_run_a_command_of_ours_with_settings_that_it_knows():
    parses(container()["args"])
    secret = manifest("secret.example.yaml", "Secret")["stringData"]
    environment = {}
    for variable in container()["env"]:
        if "value" in variable:
            environment[variable["name"]] = variable["value"]
        else:
            environment[variable["name"]] = secret[variable["valueFrom"]["secretKeyRef"]["key"]]
    config = settings(image_environment() | environment)
    spec = manifest("deployment.yaml", "Deployment")["spec"]["template"]["spec"]
    grace = spec["terminationGracePeriodSeconds"]
    assert config.drain_seconds > 0
    assert grace > config.drain_seconds + config.shutdown_seconds + LEAVE_SECONDS
    mounts = {mount["name"]: mount["mountPath"] for mount in container()["volumeMounts"]}
    assert mounts["data"] == str(config.data)
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    assert mounts.keys() == volumes.keys()
    items = volumes["secrets-key"]["secret"]["items"]
    assert all(item["key"] in secret for item in items)
    assert {Path(mounts["secrets-key"], item["path"]) for item in items} == {
        config.secrets_key_file,
        config.ledger_key_file,
    }


def test_ports_and_probes_agree():
    config = settings(image_environment())
    ports = {port["name"]: port["containerPort"] for port in container()["ports"]}
    assert ports == {
        "http": config.listen.port,
        "admin": config.admin_listen.port,
        "grpc": config.grpc_listen.port,
    }
    probes = {
        "startupProbe": HEALTH_PATH,
        "readinessProbe": READY_PATH,
        "livenessProbe": HEALTH_PATH,
    }
    for probe, path in probes.items():
        assert container()[probe]["httpGet"] == {"path": path, "port": "admin"}
    service = manifest("service.yaml", "Service")["spec"]["ports"]
    assert {port["targetPort"] for port in service} == {"http", "grpc"}
    allowed = manifest("network.yaml", "NetworkPolicy")["spec"]["ingress"][0]["ports"]
    assert {port["port"] for port in allowed} == {"http", "grpc"}
    for ingress in documents(KUBERNETES / "ingress.yaml"):
        (rule,) = ingress["spec"]["rules"]
        (path,) = rule["http"]["paths"]
        backend = path["backend"]["service"]
        assert backend["port"]["name"] in {port["name"] for port in service}
        timeout = ingress["metadata"]["annotations"]
        assert int(timeout["nginx.ingress.kubernetes.io/proxy-read-timeout"]) > 60
        assert "non_idempotent" not in timeout["nginx.ingress.kubernetes.io/proxy-next-upstream"]


def test_pods_have_no_rights():
    pod = manifest("deployment.yaml", "Deployment")["spec"]["template"]["spec"]
    (user,) = re.findall(r"^USER (\d+):", CONTAINERFILE, re.MULTILINE)
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == int(user)
    assert container()["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod["automountServiceAccountToken"] is False


def test_everything_selects_the_same_pods():
    labels = manifest("deployment.yaml", "Deployment")["spec"]["template"]["metadata"]["labels"]
    deployment = manifest("deployment.yaml", "Deployment")["spec"]
    assert deployment["selector"]["matchLabels"] == labels
    assert manifest("service.yaml", "Service")["spec"]["selector"] == labels
    budget = manifest("disruption.yaml", "PodDisruptionBudget")["spec"]
    assert budget["selector"]["matchLabels"] == labels
    assert budget["maxUnavailable"] < deployment["replicas"]
    policy = manifest("network.yaml", "NetworkPolicy")["spec"]
    assert policy["podSelector"]["matchLabels"] == labels


# -- what the guide says ------------------------------------------------------------------------


def test_the_guide_s_secrets_key_is_one(tmp_path):
    """``head -c 32 /dev/urandom | base64``, as the guide has it."""
    assert "head -c 32 /dev/urandom | base64" in GUIDE
    file = tmp_path / "secrets.key"
    file.write_bytes(base64.b64encode(bytes(range(32))) + b"\n")
    file.chmod(0o600)
    load_keyring(file)


def test_the_manifests_believe_no_proxy_that_lets_a_client_s_certificate_header_through():
    (container,) = manifest("deployment.yaml", "Deployment")["spec"]["template"]["spec"][
        "containers"
    ]
    assert "RESTANTE_TRUSTED_PROXIES" not in {one["name"] for one in container["env"]}
