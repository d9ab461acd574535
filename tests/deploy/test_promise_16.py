"""P16: shipped manifests have token mode, no root, no dashboard port outside, and a policy that denies by default.

The manifests and the rendered chart, the compose files, and the cluster of `ray up`.
"""

from __future__ import annotations

import re

import yaml

from tests.deploy.manifests import DEPLOY, Document, compose, of_kind, pods, ray_specs

DASHBOARD = 8265
RAY_PORTS = (DASHBOARD, 6379, 10001, 52365)


def variables(container: Document) -> dict[str, Document]:
    return {one["name"]: one for one in container.get("env", [])}


def test_ray_asks_for_the_token_and_has_it_from_a_secret(made: list[Document]) -> None:
    for where, spec in ray_specs(made):
        assert spec["authOptions"]["mode"] == "token", where
        secret = spec["authOptions"]["secretName"]
        assert tuple(map(int, spec["rayVersion"].split("."))) >= (2, 52), where
        for pod in pods(made):
            if pod.is_of_ray:
                for container in pod.containers:
                    there = variables(container)
                    assert there["RAY_AUTH_MODE"] == {"name": "RAY_AUTH_MODE", "value": "token"}, pod.where
                    token = there["RAY_AUTH_TOKEN"]
                    assert token["valueFrom"] == {"secretKeyRef": {"name": secret, "key": "auth_token"}}, pod.where


def test_no_secret_is_in_a_manifest(made: list[Document]) -> None:
    assert not of_kind(made, "Secret")
    for pod in pods(made):
        for container in pod.containers:
            secret = [
                one["name"] for one in container.get("env", []) if re.search("TOKEN|SECRET|KEY|PASS", one["name"])
            ]
            assert all("valueFrom" in variables(container)[name] for name in secret), pod.where
            assert all("secretRef" in one for one in container.get("envFrom", [])), pod.where


def test_every_pod_conforms_to_the_restricted_profile(made: list[Document]) -> None:
    """Kubernetes' Pod Security Standard, with a root file system that is read only."""
    for pod in pods(made):
        whole = pod.spec["securityContext"]
        assert whole["runAsNonRoot"] is True and whole["runAsUser"] > 0 and whole["runAsGroup"] > 0, pod.where
        assert whole["seccompProfile"] == {"type": "RuntimeDefault"}, pod.where
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod.spec), pod.where
        kinds = {kind for volume in pod.spec["volumes"] for kind in volume if kind != "name"}
        assert kinds <= {"emptyDir", "persistentVolumeClaim"}, pod.where
        for container in pod.containers:
            own = container["securityContext"]
            assert own["runAsNonRoot"] is True and own.get("runAsUser", 1) > 0, pod.where
            assert own["allowPrivilegeEscalation"] is False and not own.get("privileged"), pod.where
            assert own["readOnlyRootFilesystem"] is True, pod.where
            assert own["capabilities"] == {"drop": ["ALL"]}, pod.where
            assert own["seccompProfile"] == {"type": "RuntimeDefault"}, pod.where


def test_the_autoscaler_s_container_is_confined_too(made: list[Document]) -> None:
    for where, spec in ray_specs(made):
        if spec["enableInTreeAutoscaling"]:
            own = spec["autoscalerOptions"]["securityContext"]
            assert own["runAsNonRoot"] is True and own["capabilities"] == {"drop": ["ALL"]}, where


def test_only_the_autoscaler_s_head_may_speak_to_kubernetes(made: list[Document]) -> None:
    scaled = {f"{where}: head" for where, spec in ray_specs(made) if spec["enableInTreeAutoscaling"]}
    for pod in pods(made):
        assert (pod.spec.get("automountServiceAccountToken") is False) is (pod.where not in scaled), pod.where


def test_every_container_has_requests_and_limits(made: list[Document]) -> None:
    for pod in pods(made):
        for container in pod.containers:
            resources = container["resources"]
            assert {"cpu", "memory", "ephemeral-storage"} <= set(resources["requests"]), pod.where
            assert resources["requests"].items() <= resources["limits"].items(), pod.where


def test_no_port_of_ray_is_open_outside(made: list[Document]) -> None:
    assert not of_kind(made, "Ingress")
    for service in of_kind(made, "Service"):
        assert service["spec"]["type"] == "ClusterIP"
        assert not {port["port"] for port in service["spec"]["ports"]} & set(RAY_PORTS)
    for where, spec in ray_specs(made):
        head = spec["headGroupSpec"]
        assert head["serviceType"] == "ClusterIP" and head["enableIngress"] is False, where
    for pod in pods(made):
        assert not any("hostPort" in port for one in pod.containers for port in one.get("ports", [])), pod.where


def test_a_policy_denies_by_default(made: list[Document]) -> None:
    denying = [
        policy["spec"]
        for policy in of_kind(made, "NetworkPolicy")
        if policy["spec"]["podSelector"] == {} and sorted(policy["spec"]["policyTypes"]) == ["Egress", "Ingress"]
    ]
    assert len(denying) == 1
    assert set(denying[0]) == {"podSelector", "policyTypes"}, "it names nothing that it lets through"


def test_what_policies_let_in_is_named(made: list[Document]) -> None:
    """Each rule has a peer; of others the operator alone reaches the job API, and nobody Ray's other ports."""
    for policy in of_kind(made, "NetworkPolicy"):
        for rule in policy["spec"].get("ingress", []):
            assert rule.get("from"), policy["metadata"]["name"]
            ours = all(set(peer) == {"podSelector"} for peer in rule["from"])
            ports = {port["port"] for port in rule.get("ports", [])}
            assert ours or ports, "a peer of another namespace reaches every port"
            if not ours and ports & set(RAY_PORTS):
                assert ports & set(RAY_PORTS) == {DASHBOARD}
                (peer,) = rule["from"]
                assert peer["podSelector"]["matchLabels"] == {"app.kubernetes.io/name": "kuberay-operator"}
                assert set(peer["namespaceSelector"]["matchLabels"]) == {"kubernetes.io/metadata.name"}


def test_what_policies_let_out_is_named(made: list[Document]) -> None:
    for policy in of_kind(made, "NetworkPolicy"):
        for rule in policy["spec"].get("egress", []):
            assert rule.get("to"), policy["metadata"]["name"]
            ours = all(set(peer) == {"podSelector"} for peer in rule["to"])
            assert ours or rule.get("ports"), policy["metadata"]["name"]
            for peer in rule["to"]:
                if peer.get("ipBlock", {}).get("cidr") == "0.0.0.0/0":
                    assert "169.254.0.0/16" in peer["ipBlock"]["except"], "the credentials of the node itself"
                    assert "10.0.0.0/8" in peer["ipBlock"]["except"], "what else is in the cluster"


def test_policies_select_pods_that_there_are(made: list[Document]) -> None:
    """A selector with a wrong label selects nothing, and denies what is needed."""
    labels = [pod.labels for pod in pods(made)]
    labels += [{**pod.labels, "ray.io/node-type": "head"} for pod in pods(made) if pod.is_of_ray]  # KubeRay's own
    for policy in of_kind(made, "NetworkPolicy"):
        wanted = policy["spec"]["podSelector"].get("matchLabels", {})
        part = wanted.get("ziggurat/part")
        if part is None or any(there.get("ziggurat/part") == part for there in labels):
            assert not labels or any(wanted.items() <= there.items() for there in labels), policy["metadata"]["name"]


def test_compose_publishes_the_service_on_loopback_and_nothing_else() -> None:
    ports = {name: service["ports"] for name, service in compose().items() if "ports" in service}
    assert ports == {"service": ["127.0.0.1:8470:8470"]}


def test_containers_of_compose_are_confined_and_have_limits() -> None:
    for name, service in compose().items():
        assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", service["user"]), name
        assert service["cap_drop"] == ["ALL"] and service["read_only"] is True, name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert not {"privileged", "network_mode", "pid", "cap_add", "devices"} & set(service), name
        assert {"cpus", "memory"} <= set(service["deploy"]["resources"]["limits"]), name
        assert ":" in service["image"] and not service["image"].endswith(":latest"), name


def test_ray_of_compose_asks_for_a_token_that_must_be_given() -> None:
    for name in ("head", "worker"):
        service = compose()[name]
        assert service["environment"]["RAY_AUTH_MODE"] == "token"
        assert service["environment"]["RAY_AUTH_TOKEN"].startswith("${RAY_AUTH_TOKEN:?")
    assert "--dashboard-host=127.0.0.1" in compose()["head"]["command"]


def test_the_store_of_compose_has_no_key_of_its_own() -> None:
    for value in compose()["store"]["environment"].values():
        assert re.fullmatch(r"\$\{AWS_[A-Z_]+:\?.+\}", value)


def test_the_cluster_of_ray_up_asks_for_a_token_and_listens_on_loopback() -> None:
    cluster = yaml.safe_load((DEPLOY / "ray" / "cluster.yaml").read_text())
    starts = [*cluster["head_start_ray_commands"], *cluster["worker_start_ray_commands"]]
    starts = [command for command in starts if "ray start" in command]
    assert len(starts) == 2 and all(command.startswith("RAY_AUTH_MODE=token ray start") for command in starts)
    assert "--dashboard-host=127.0.0.1" in starts[0]
    options = cluster["docker"]["run_options"]
    assert {"--cap-drop=ALL", "--security-opt=no-new-privileges:true", "--env=RAY_AUTH_MODE=token"} <= set(options)
    assert any(re.fullmatch(r"--user=[1-9]\d*:[1-9]\d*", option) for option in options)
    assert list(cluster["file_mounts"]) == ["~/.ray/auth_token"]
