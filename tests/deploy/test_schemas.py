"""Every manifest fits its schema: Kubernetes' published ones, Ray's own for `ray up`, the Compose Specification as
models; and for KubeRay's kinds, of which no package index has a schema, a check by hand (`tests.deploy.kuberay`).
"""

from __future__ import annotations

import copy
import importlib.util
import json
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from compose_pydantic import ComposeSpecification
from pydantic import ValidationError

from tests.deploy import kuberay
from tests.deploy.manifests import CHART, COMPOSE, DEPLOY, RAY_KINDS, Document, compose, plain

KUBERNETES = "1.37"
API = {"PodTemplate": "v1", "Service": "v1"}


def validate(document: Document) -> None:
    """Strictly: a field that the schema does not know is an error."""
    kubernetes_validate.validate(document, KUBERNETES, strict=True)


def as_document(kind: str, part: Any) -> Document:
    """A part of KubeRay's kinds as a document of core Kubernetes."""
    document = {"apiVersion": API[kind], "kind": kind, "metadata": {"name": "part"}}
    return document | ({"template": part} if kind == "PodTemplate" else part)


def test_core_kinds_fit_the_published_schemas(made: list[Document]) -> None:
    for document in made:
        if document["kind"] not in RAY_KINDS:
            validate(document)


def test_kinds_of_kuberay_have_the_fields_that_there_are(made: list[Document]) -> None:
    for document in made:
        if document["kind"] in RAY_KINDS:
            assert kuberay.looked_at(document).wrong == []


def test_pods_in_kinds_of_kuberay_fit_the_published_schemas(made: list[Document]) -> None:
    ray = [document for document in made if document["kind"] in RAY_KINDS]
    parts = [part for document in ray for part in kuberay.looked_at(document).core]
    assert len(parts) >= len(ray) * 2
    unlike = {json.dumps(part, sort_keys=True): (kind, part) for _, kind, part in parts}
    for kind, part in unlike.values():
        validate(as_document(kind, part))


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("spec", "headGroupSpecs"), {}),
        (("spec", "authOptions", "mode"), "none"),
        (("spec", "headGroupSpec", "rayStartParams", "num-cpus"), 0),
        (("spec", "headGroupSpec", "enableIngress"), "false"),
        (("spec", "workerGroupSpecs", 0, "groupName"), 1),
        (("spec", "workerGroupSpecs", 0, "maxReplicas"), 0.5),
        (("spec", "workerGroupSpecs", 2, "replicas"), 99),
        (("apiVersion",), "ray.io/v1alpha1"),
    ],
)
def test_the_check_by_hand_finds_what_is_wrong(place: tuple[Any, ...], value: object) -> None:
    (document,) = (copy.deepcopy(one) for one in plain() if one["kind"] == "RayCluster")
    *path, last = place
    at: Any = document
    for step in path:
        at = at[step]
    at[last] = value
    assert kuberay.looked_at(document).wrong != []


def test_a_pod_with_an_unknown_field_is_refused() -> None:
    (document,) = (copy.deepcopy(one) for one in plain() if one["kind"] == "RayCluster")
    _, kind, part = kuberay.looked_at(document).core[0]
    part["spec"]["containers"][0]["securityContexts"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        validate(as_document(kind, part))


def test_the_cluster_of_ray_up_fits_ray_s_schema() -> None:
    found = importlib.util.find_spec("ray")
    assert found is not None and found.origin is not None
    schema = json.loads((Path(found.origin).parent / "autoscaler" / "ray-schema.json").read_text())
    cluster = yaml.safe_load((DEPLOY / "ray" / "cluster.yaml").read_text())
    jsonschema.validate(cluster, schema)
    assert cluster["head_node_type"] in cluster["available_node_types"]
    assert sum(one["max_workers"] for one in cluster["available_node_types"].values()) == cluster["max_workers"]


@pytest.mark.parametrize("name", COMPOSE)
def test_compose_files_fit_the_compose_specification(name: str) -> None:
    whole = yaml.safe_load((DEPLOY / name).read_text())
    known = {key: value for key, value in whole.items() if not key.startswith("x-")}  # extensions are anybody's
    ComposeSpecification.model_validate(known)
    known["services"][next(iter(known["services"]))]["reed_only"] = True
    with pytest.raises(ValidationError):
        ComposeSpecification.model_validate(known)


def test_services_of_compose_name_what_there_is() -> None:
    services = compose()
    for name, service in services.items():
        assert set(service.get("depends_on", [])) <= set(services), name
    assert "--address=head:6379" in services["worker"]["command"]


def test_the_schema_of_values_is_one_and_the_default_values_fit_but_for_the_pyramid() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    jsonschema.Draft7Validator.check_schema(schema)
    (error,) = jsonschema.Draft7Validator(schema).iter_errors(values)
    assert list(error.path) == ["pyramid"]
    jsonschema.validate(values | {"pyramid": "s3://b/p"}, schema)
