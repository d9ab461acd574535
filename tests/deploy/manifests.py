"""What deploy/ has, as data: the plain manifests, the chart rendered under several values, the pods in all of them."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
CHART = DEPLOY / "chart"
COMPOSE = ("compose.yaml", "compose.store.yaml")
PLAIN = sorted(path for path in (DEPLOY / "kubernetes").glob("*.yaml") if path.name != "values.yaml")
RAY_KINDS = ("RayCluster", "RayJob", "RayService")
CLUSTERS = {"RayCluster": "spec", "RayJob": "rayClusterSpec", "RayService": "rayClusterConfig"}

LEAST: dict[str, Any] = {"pyramid": "s3://b/p"}
JOB = {
    "enabled": True,
    "command": "ziggurat train s3://b/p#one --to s3://b/one --address auto".split(),
    "groups": ["training"],
}
VALUES: dict[str, dict[str, Any]] = {
    "least": LEAST,
    "all": {
        "pyramid": "/data/p",
        "images": {"pullSecrets": [{"name": "registry"}]},
        "storage": {"secret": "storage", "claim": "videos"},
        "serviceAccount": {"annotations": {"cloud/role": "reader"}},
        "gpu": {"nodeSelector": {"gpu": "h100"}},
        "cluster": {"autoscaling": True},
        "job": JOB,
        "endpoint": {"enabled": True, "model": "m", "source": "/data/m"},
        "serve": {"names": ["clips.example.org"]},
        "networkPolicy": {
            "clients": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "ingress"}}}],
            "apiServer": {"cidr": "10.0.0.1/32", "port": 6443},
        },
    },
    "none": {**LEAST, "cluster": {"enabled": False}, "serve": {"enabled": False}},
}
"""Values under which the chart is looked at: as few as it takes, all that it has, and neither cluster nor service."""

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod's template in a manifest. `where`: for messages."""

    where: str
    template: Document

    @property
    def spec(self) -> Document:
        return self.template["spec"]

    @property
    def labels(self) -> dict[str, str]:
        return self.template["metadata"]["labels"]

    @property
    def containers(self) -> list[Document]:
        return [*self.spec["containers"], *self.spec.get("initContainers", [])]

    @property
    def is_of_ray(self) -> bool:
        return self.labels.get("ziggurat/part") == "ray"


def documents(text: str) -> list[Document]:
    return [document for document in yaml.safe_load_all(text) if document]


def plain() -> list[Document]:
    """The manifests in deploy/kubernetes."""
    return [document for path in PLAIN for document in documents(path.read_text())]


def rendered(values: Mapping[str, Any]) -> list[Document]:
    """What the chart makes of `values`. Skips the test where Helm's library has no build."""
    if importlib.util.find_spec("helm_python") is None:
        pytest.skip("helm-python-sdk, which renders the chart, is not installed: it has a build for x86-64 alone")
    from helm_python import Chart

    with Chart.load(CHART) as chart:
        texts = chart.render(values=dict(values), name="ziggurat", namespace="ziggurat")
    return [document for text in texts.values() for document in documents(text)]


def ray_specs(made: list[Document]) -> Iterator[tuple[str, Document]]:
    """The specs of Ray clusters, alone and in jobs and services."""
    for document in made:
        if (key := CLUSTERS.get(document["kind"])) is not None:
            spec = document["spec"]
            yield f"{document['kind']} {document['metadata']['name']}", spec if key == "spec" else spec[key]


def pods(made: list[Document]) -> list[Pod]:
    """Every pod's template in the manifests `made`."""
    found = []
    for where, spec in ray_specs(made):
        found.append(Pod(f"{where}: head", spec["headGroupSpec"]["template"]))
        found += [Pod(f"{where}: {group['groupName']}", group["template"]) for group in spec["workerGroupSpecs"]]
    found += [
        Pod(f"Deployment {one['metadata']['name']}", one["spec"]["template"]) for one in of_kind(made, "Deployment")
    ]
    return found


def of_kind(made: list[Document], kind: str) -> list[Document]:
    return [document for document in made if document["kind"] == kind]


def compose() -> dict[str, Document]:
    """The services of both compose files."""
    whole = [yaml.safe_load((DEPLOY / name).read_text()) for name in COMPOSE]
    return {name: service for one in whole for name, service in one["services"].items()}
