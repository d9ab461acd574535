"""A structural check of KubeRay's kinds, written by hand: which fields there are, of which type, which there must be.

It is no schema of KubeRay's. KubeRay publishes its schemas as custom resource definitions in its own chart, which no
package index has; these are the fields of KubeRay 1.6 that `deploy/` uses or might, by its API reference. Pods'
templates and services inside are core Kubernetes: they are returned, for its published schemas.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Shape:
    """An object: its fields, and those that must be there. A field is a Python type, a `Shape` or a function."""

    fields: dict[str, Any]
    needed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Each:
    """A list of one shape."""

    shape: Shape


@dataclass(slots=True)
class Found:
    """What is wrong, and the parts that are core Kubernetes: (where, kind, part)."""

    wrong: list[str] = field(default_factory=list)
    core: list[tuple[str, str, Any]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Core:
    """A part that is of a kind of core Kubernetes."""

    kind: str


Check = Callable[[Any], bool]


def among(*values: str) -> Check:
    return lambda value: value in values


def texts(value: Any) -> bool:
    """A map of text to text: `ray start` gets its parameters so, and a number or a boolean is refused."""
    return isinstance(value, dict) and all(isinstance(one, str) for pair in value.items() for one in pair)


def whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


POD = Core("PodTemplate")

_WORKERS = Shape(
    {
        "groupName": str,
        "replicas": whole,
        "minReplicas": whole,
        "maxReplicas": whole,
        "numOfHosts": whole,
        "idleTimeoutSeconds": whole,
        "suspend": bool,
        "rayStartParams": texts,
        "template": POD,
        "scaleStrategy": dict,
    },
    ("groupName", "template", "rayStartParams", "minReplicas", "maxReplicas"),
)
_HEAD = Shape(
    {
        "serviceType": among("ClusterIP", "NodePort", "LoadBalancer"),
        "headService": Core("Service"),
        "enableIngress": bool,
        "rayStartParams": texts,
        "template": POD,
    },
    ("template", "rayStartParams"),
)
_AUTOSCALER = Shape(
    {
        "version": among("v1", "v2"),
        "resources": dict,
        "image": str,
        "imagePullPolicy": among("Always", "IfNotPresent", "Never"),
        "env": list,
        "envFrom": list,
        "volumeMounts": list,
        "securityContext": dict,
        "idleTimeoutSeconds": whole,
        "upscalingMode": among("Default", "Aggressive", "Conservative"),
    }
)
_CLUSTER = Shape(
    {
        "rayVersion": str,
        "authOptions": Shape({"mode": among("disabled", "token"), "secretName": str}, ("mode",)),
        "enableInTreeAutoscaling": bool,
        "autoscalerOptions": _AUTOSCALER,
        "headServiceAnnotations": texts,
        "gcsFaultToleranceOptions": dict,
        "suspend": bool,
        "managedBy": str,
        "headGroupSpec": _HEAD,
        "workerGroupSpecs": Each(_WORKERS),
    },
    ("headGroupSpec", "rayVersion"),
)
_JOB = Shape(
    {
        "entrypoint": str,
        "runtimeEnvYAML": str,
        "jobId": str,
        "submissionMode": among("K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"),
        "activeDeadlineSeconds": whole,
        "backoffLimit": whole,
        "rayClusterSpec": _CLUSTER,
        "clusterSelector": texts,
        "submitterPodTemplate": POD,
        "submitterConfig": dict,
        "metadata": texts,
        "managedBy": str,
        "deletionStrategy": dict,
        "entrypointNumCpus": (int, float),
        "entrypointNumGpus": (int, float),
        "entrypointResources": str,
        "ttlSecondsAfterFinished": whole,
        "shutdownAfterJobFinishes": bool,
        "suspend": bool,
    },
    ("entrypoint", "rayClusterSpec"),
)
_SERVICE = Shape(
    {
        "serveConfigV2": str,
        "rayClusterConfig": _CLUSTER,
        "serveService": Core("Service"),
        "upgradeStrategy": dict,
        "excludeHeadPodFromServeSvc": bool,
    },
    ("serveConfigV2", "rayClusterConfig"),
)
_SPECS = {"RayCluster": _CLUSTER, "RayJob": _JOB, "RayService": _SERVICE}


def looked_at(document: dict[str, Any]) -> Found:
    """What is wrong with a document of a kind of KubeRay's, and its parts that are core Kubernetes."""
    found = Found()
    if document.get("apiVersion") != "ray.io/v1":
        found.wrong.append("apiVersion is not ray.io/v1")
    if not document.get("metadata", {}).get("name"):
        found.wrong.append("it has no name")
    if set(document) != {"apiVersion", "kind", "metadata", "spec"}:
        found.wrong.append(f"its fields are {sorted(document)}")
    _look(document.get("spec"), _SPECS[document["kind"]], "spec", found)
    found.wrong += _groups(document)
    return found


def _look(value: Any, wanted: Any, where: str, found: Found) -> None:
    if isinstance(wanted, Shape):
        if not isinstance(value, dict):
            found.wrong.append(f"{where} is no object")
            return
        found.wrong += [f"{where} has no field {name}" for name in value if name not in wanted.fields]
        found.wrong += [f"{where} lacks {name}" for name in wanted.needed if name not in value]
        for name in value:
            if name in wanted.fields:
                _look(value[name], wanted.fields[name], f"{where}.{name}", found)
    elif isinstance(wanted, Each):
        if not isinstance(value, list):
            found.wrong.append(f"{where} is no list")
            return
        for at, one in enumerate(value):
            _look(one, wanted.shape, f"{where}[{at}]", found)
    elif isinstance(wanted, Core):
        found.core.append((where, wanted.kind, value))
    elif not (isinstance(value, wanted) if isinstance(wanted, type | tuple) else wanted(value)):
        found.wrong.append(f"{where} is {value!r}")


def _groups(document: dict[str, Any]) -> Iterator[str]:
    """What KubeRay's operator refuses beyond its schema: two groups of one name, bounds the wrong way round."""
    spec = document.get("spec") or {}
    cluster = spec.get("rayClusterSpec") or spec.get("rayClusterConfig") or spec
    groups = cluster.get("workerGroupSpecs") or []
    names = [group.get("groupName") for group in groups]
    yield from (f"two groups are called {name}" for name in dict.fromkeys(names) if names.count(name) > 1)
    for group in groups:
        least, now, most = (group.get(f"{key}eplicas", 0) for key in ("minR", "r", "maxR"))
        if not least <= now <= most:
            yield f"group {group.get('groupName')} has {now} replicas, not {least} to {most}"
