"""deploy/kubernetes fits together and fits the code: names, ports, settings, secrets, probes, times, rights."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from litestar.routes import ASGIRoute

from gateway.app import Replica
from gateway.cli.listener import SETTLE_S
from gateway.cli.main import COMMANDS
from gateway.settings import FILE, NAMES, WRITTEN_NAMES, Settings, SettingsError, load
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.worker import WorkerMetrics
from workers.status import Status

DEPLOY = Path(__file__).parents[2] / "deploy"
FOLDER = DEPLOY / "kubernetes"
SECRETS_AT = "/run/secrets/llm-gateway/"
BY_HAND = {"kustomization.yaml", "secret.example.yaml", "prometheus-adapter.yaml"}
CONNECTIONS_OF_A_REPLICA = 10
"""as deploy/postgres/roles.sh counts them"""
Manifest = dict[str, Any]


def load_all(name: str) -> list[Manifest]:
    return list(yaml.safe_load_all((FOLDER / name).read_text()))


KUSTOMIZATION = load_all("kustomization.yaml")[0]
MANIFESTS = [one for name in KUSTOMIZATION["resources"] for one in load_all(name)]
SETTINGS = next(one for one in MANIFESTS if one["kind"] == "ConfigMap")
SECRET = load_all("secret.example.yaml")[0]


def of_kind(kind: str) -> list[Manifest]:
    return [one for one in MANIFESTS if one["kind"] == kind]


def workloads() -> dict[str, Manifest]:
    """The pods' specifications by name, with their labels."""
    found = (one for kind in ("Deployment", "Job") for one in of_kind(kind))
    return {one["metadata"]["name"]: one["spec"]["template"] for one in found}


WORKLOADS = workloads()


def container(name: str) -> Manifest:
    (only,) = WORKLOADS[name]["spec"]["containers"]
    return dict(only)


def chosen(selector: Manifest) -> set[str]:
    """The workloads whose pods have these labels."""
    wanted = selector.get("matchLabels", selector).items()
    return {name for name, pod in WORKLOADS.items() if wanted <= pod["metadata"]["labels"].items()}


def ports(name: str) -> dict[str, int]:
    return {port["name"]: port["containerPort"] for port in container(name).get("ports", [])}


def test_all_files_are_applied_but_those_for_the_operators_hands() -> None:
    assert {path.name for path in FOLDER.glob("*.yaml")} == {*KUSTOMIZATION["resources"]} | BY_HAND
    assert set(WORKLOADS) == {"gateway", "worker", "migrate"}
    assert KUSTOMIZATION["namespace"] == of_kind("Namespace")[0]["metadata"]["name"]
    assert [image["name"] for image in KUSTOMIZATION["images"]] == ["llm-gateway"]
    kinds = [(one["kind"], one["metadata"]["name"]) for one in MANIFESTS]
    assert len(kinds) == len(set(kinds))


def test_every_selector_finds_its_pods() -> None:
    for deployment in of_kind("Deployment"):
        assert chosen(deployment["spec"]["selector"]) == {deployment["metadata"]["name"]}
        for spread in deployment["spec"]["template"]["spec"]["topologySpreadConstraints"]:
            assert chosen(spread["labelSelector"]) == {deployment["metadata"]["name"]}
    for kind in ("PodDisruptionBudget", "Service"):
        for one in of_kind(kind):
            assert chosen(one["spec"]["selector"]) == {one["metadata"]["name"]}
    found = {one["metadata"]["name"]: chosen(one["spec"]["podSelector"]) for one in of_kind("NetworkPolicy")}
    everyone = set(WORKLOADS)
    assert found == {
        "nothing": everyone, "names": everyone, "stores": everyone, "gateway": {"gateway"}, "worker": {"worker"},
        "certificate": set(),
    }  # fmt: skip


def test_ports_are_those_of_the_settings() -> None:
    said = SETTINGS["data"]
    assert ports("gateway") == {"http": int(said["PORT"]), "private": int(said["ADMIN_PORT"])}
    assert ports("worker") == {"private": int(said["WORKER_PORT"])}
    for name in ("gateway", "worker"):
        notes = WORKLOADS[name]["metadata"]["annotations"]
        assert (notes["prometheus.io/port"], notes["prometheus.io/path"]) == (str(ports(name)["private"]), "/metrics")


def test_only_the_public_port_is_reached_from_outside() -> None:
    (service,), (ingress,) = of_kind("Service"), of_kind("Ingress")
    assert [port["targetPort"] for port in service["spec"]["ports"]] == ["http"]
    ways = [path["backend"]["service"] for rule in ingress["spec"]["rules"] for path in rule["http"]["paths"]]
    assert ways == [{"name": service["metadata"]["name"], "port": {"name": service["spec"]["ports"][0]["name"]}}]
    policies = {one["metadata"]["name"]: one["spec"] for one in of_kind("NetworkPolicy")}
    let_in = {
        (name, way["from"][0]["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"], port["port"])
        for name, policy in policies.items()
        for way in policy.get("ingress", [])
        for port in way["ports"]
    }
    assert let_in == {
        ("gateway", "ingress-nginx", "http"), ("gateway", "monitoring", "private"), ("worker", "monitoring", "private"),
        ("certificate", "ingress-nginx", 8089),
    }  # fmt: skip
    assert policies["nothing"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


def test_settings_are_settings_and_no_secrets() -> None:
    settings = load(SETTINGS["data"])
    assert set(SETTINGS["data"]) <= set(NAMES)
    assert settings.trusted_proxies
    assert not {name + FILE for name in SETTINGS["data"]} & set(WRITTEN_NAMES)


@pytest.mark.parametrize("name", sorted(WORKLOADS))
def test_secrets_are_files_that_are_mounted_and_exist(name: str) -> None:
    one, pod = container(name), WORKLOADS[name]["spec"]
    assert one["envFrom"] == [{"configMapRef": {"name": SETTINGS["metadata"]["name"]}}]
    given = {variable["name"]: variable["value"] for variable in one["env"]}
    assert set(given) <= set(WRITTEN_NAMES) - set(NAMES)
    (mount,), (volume,) = one["volumeMounts"], pod["volumes"]
    assert (mount["name"], mount["mountPath"] + "/", mount["readOnly"]) == (volume["name"], SECRETS_AT, True)
    assert volume["secret"]["secretName"] == SECRET["metadata"]["name"]
    items = {SECRETS_AT + item["path"]: item["key"] for item in volume["secret"]["items"]}
    assert sorted(items) == sorted(given.values())
    assert set(items.values()) <= set(SECRET["stringData"])


def test_each_part_gets_the_secrets_of_its_own_role() -> None:
    used = {
        name: {item["key"] for item in pod["spec"]["volumes"][0]["secret"]["items"]} for name, pod in WORKLOADS.items()
    }
    assert used == {
        "gateway": {"admin_secret", "key_pepper", "database_url_gateway", "redis_url_gateway"},
        "worker": {"database_url_worker", "redis_url_worker"},
        "migrate": {"database_url_owner", "redis_url_worker"},
    }
    assert set(SECRET["stringData"]) == set().union(*used.values())
    made = (DEPLOY / "make-secrets").read_text()
    assert all(re.search(rf"\b{name}\b|\b{name.rpartition('_')[0]}_", made) for name in SECRET["stringData"])


def test_the_example_of_a_secret_does_not_start_a_replica() -> None:
    names = {"admin_secret": "ADMIN_SECRET", "key_pepper": "KEY_PEPPER"}
    for key, value in SECRET["stringData"].items():
        name = names.get(key) or ("DATABASE_URL" if key.startswith("database") else "REDIS_URL")
        with pytest.raises(SettingsError, match=name):
            load({name: value})


def test_probes_ask_for_what_is_there() -> None:
    routes = {route.path for route in Replica(Settings()).app.routes if not isinstance(route, ASGIRoute)}
    worker = Status([], WorkerMetrics())
    for name, kind, probe in _probes():
        path, port = probe["httpGet"]["path"], probe["httpGet"]["port"]
        assert port in ports(name)
        assert path in routes if name == "gateway" else worker._reply("GET", path)[0] == 200, (name, kind)
    asked = {(name, kind): probe["httpGet"]["path"] for name, kind, probe in _probes()}
    assert asked["gateway", "readinessProbe"] == "/ready"
    assert asked["gateway", "livenessProbe"] == "/health"  # a store that is away is no reason to start replicas anew


def _probes() -> Iterator[tuple[str, str, Manifest]]:
    for name in WORKLOADS:
        for kind, probe in container(name).items():
            if kind.endswith("Probe"):
                yield name, kind, probe


def test_there_is_time_to_drain() -> None:
    settings = load(SETTINGS["data"])
    readiness = container("gateway")["readinessProbe"]
    noticed_s = readiness["periodSeconds"] * readiness["failureThreshold"] + readiness["timeoutSeconds"]
    assert settings.balancer_seconds > noticed_s
    needed_s = settings.balancer_seconds + settings.drain_seconds + SETTLE_S
    assert WORKLOADS["gateway"]["spec"]["terminationGracePeriodSeconds"] > needed_s


def test_the_ingress_does_not_give_up_before_the_gateway() -> None:
    (ingress,) = of_kind("Ingress")
    notes = {
        name.removeprefix("nginx.ingress.kubernetes.io/"): value
        for name, value in ingress["metadata"]["annotations"].items()
    }
    settings = load(SETTINGS["data"])
    assert int(notes["proxy-read-timeout"]) > settings.ollama_total_timeout + settings.queue_seconds_max
    assert (notes["proxy-buffering"], notes["proxy-request-buffering"]) == ("off", "on")
    assert "non_idempotent" not in notes["proxy-next-upstream"]
    assert int(notes["proxy-body-size"].removesuffix("m")) * 2**20 > settings.body_bytes_max


@pytest.mark.parametrize("name", sorted(WORKLOADS))
def test_pods_may_do_nothing_but_their_work(name: str) -> None:
    pod, one = WORKLOADS[name]["spec"], container(name)
    user = int(re.findall(r"^USER (\d+)", (DEPLOY.parent / "Containerfile").read_text(), re.MULTILINE)[-1])
    rights = pod["securityContext"]
    assert (rights["runAsNonRoot"], rights["runAsUser"], rights["fsGroup"]) == (True, user, user)
    assert rights["seccompProfile"] == {"type": "RuntimeDefault"}
    assert one["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
    }  # fmt: skip
    assert (pod["automountServiceAccountToken"], pod["enableServiceLinks"]) == (False, False)
    assert one["resources"]["requests"].keys() == {"cpu", "memory"}
    assert "memory" in one["resources"]["limits"]
    assert (one["image"], one["args"][0] in COMMANDS) == ("llm-gateway", True)


def test_replicas_are_scaled_on_a_metric_that_they_have() -> None:
    (scaler,) = of_kind("HorizontalPodAutoscaler")
    target = scaler["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) in {(one["kind"], one["metadata"]["name"]) for one in of_kind("Deployment")}
    (metric,) = [one["pods"]["metric"]["name"] for one in scaler["spec"]["metrics"]]
    assert metric in {one.name for one in Metrics().registry.collect()}
    (rule,) = load_all("prometheus-adapter.yaml")[0]["rules"]["custom"]
    assert rule["name"]["as"] == metric
    assert rule["seriesQuery"].startswith(metric + "{")
    assert scaler["spec"]["minReplicas"] >= 2
    room = int(re.findall(r"GATEWAY_CONNECTIONS:-(\d+)", (DEPLOY / "postgres" / "roles.sh").read_text())[0])
    surge = of_kind("Deployment")[-1]["spec"]["strategy"]["rollingUpdate"]["maxSurge"]
    assert (scaler["spec"]["maxReplicas"] + surge) * CONNECTIONS_OF_A_REPLICA <= room
