"""The chart: what its values make, what it refuses, and that the plain manifests are what it makes."""

from __future__ import annotations

import importlib.util
import runpy
from typing import Any

import pytest

from tests.deploy.manifests import CHART, DEPLOY, LEAST, PLAIN, VALUES, Document, of_kind, pods, ray_specs, rendered

helm = pytest.importorskip(
    "helm_python", reason="helm-python-sdk, which renders the chart, has a build for x86-64 alone"
)


def workers(made: list[Document], kind: str) -> dict[str, Document]:
    (document,) = of_kind(made, kind)
    (spec,) = (spec for _, spec in ray_specs([document]))
    return {group["groupName"]: group for group in spec["workerGroupSpecs"]}


def test_the_plain_manifests_are_what_the_chart_makes() -> None:
    made = runpy.run_path(str(DEPLOY / "render.py"))["rendered"]()
    assert {path.name: path.read_text() for path in PLAIN} == made, "run python deploy/render.py"


def test_helm_lints_it_without_an_error_or_a_warning() -> None:
    from helm_python.chart import lint

    for values in VALUES.values():
        report = lint(CHART, values=values, strict=True)
        assert report["errors"] == [] and all(said["severity"] <= 1 for said in report["messages"])


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"pyramid": ""},
        {**LEAST, "rays": {}},
        {**LEAST, "images": {"cpu": "ziggurat"}},
        {**LEAST, "images": {"gpu": "ziggurat:latest"}},
        {**LEAST, "job": {"enabled": True}},
        {**LEAST, "job": {"enabled": True, "command": ["it's"]}},
        {**LEAST, "job": {"enabled": True, "command": ["x"], "groups": ["nowhere"]}},
        {**LEAST, "cluster": {"autoscaling": True}},
        {**LEAST, "endpoint": {"enabled": True}},
        {**LEAST, "groups": {"cpu": {"gpus": -1}}},
        {**LEAST, "groups": {"more": {"gpus": 1}}},
        {**LEAST, "serve": {"replicas": 2}},
        {**LEAST, "ray": {"tokenSecret": ""}},
        {**LEAST, "networkPolicy": {"storage": [{"to": []}]}},
    ],
    ids=str,
)
def test_values_that_cannot_be_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(helm.HelmError):
        rendered(values)


def test_there_are_gpu_groups_for_clip_captions_encoding_and_training() -> None:
    made = rendered(LEAST)
    groups = workers(made, "RayCluster")
    assert set(groups) == {"cpu", "clip", "captions", "encoding", "training"}
    for name, group in groups.items():
        (container,) = group["template"]["spec"]["containers"]
        gpus = int(container["resources"]["limits"].get("nvidia.com/gpu", 0))
        assert (gpus > 0) is (name != "cpu")
        assert container["image"] == ("ziggurat:0.1.0-gpu" if gpus else "ziggurat:0.1.0-cpu")
        tolerated = {one["key"] for one in group["template"]["spec"].get("tolerations", [])}
        assert ("nvidia.com/gpu" in tolerated) is (gpus > 0)


def test_spot_workers_go_to_spot_nodes_and_others_do_not() -> None:
    made = rendered({**LEAST, "spot": {"nodeSelector": {"cloud/spot": "true"}}})
    spot = {
        name: "cloud/spot" in group["template"]["spec"].get("nodeSelector", {})
        for name, group in workers(made, "RayCluster").items()
    }
    assert spot == {"cpu": True, "clip": True, "captions": True, "encoding": True, "training": False}


def test_a_job_has_the_groups_that_it_names_and_a_worker_in_each() -> None:
    job = {"enabled": True, "command": ["ziggurat", "caption", "s3://b/p"], "groups": ["captions"]}
    made = rendered({**LEAST, "job": job})
    ((name, group),) = workers(made, "RayJob").items()
    assert name == "captions" and group["replicas"] == 1
    assert workers(made, "RayCluster")["captions"]["replicas"] == 0, "the cluster that stays keeps its own"


def test_words_of_a_job_reach_the_shell_as_they_are() -> None:
    import shlex

    command = ["ziggurat", "search", "s3://b/p", 'a red fox; $(rm -rf ~) "runs"']
    (job,) = of_kind(rendered({**LEAST, "job": {"enabled": True, "command": command}}), "RayJob")
    assert shlex.split(job["spec"]["entrypoint"]) == command


def test_the_service_is_probed_under_a_name_that_it_answers_to() -> None:
    (deployment,) = of_kind(rendered(VALUES["all"]), "Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    words = [*container["command"], *container["args"]]
    names = [words[at + 1] for at, word in enumerate(words) if word == "--name"]
    assert {"clips.example.org", "ziggurat-serve", "ziggurat-serve.ziggurat.svc", "localhost"} <= set(names)
    assert "--without-tokens" not in words
    for probe, path in (("startupProbe", "/health"), ("livenessProbe", "/health"), ("readinessProbe", "/ready")):
        asked = container[probe]["httpGet"]
        assert asked["path"] == path
        ((host,),) = ([one["value"] for one in asked["httpHeaders"] if one["name"] == "Host"],)
        assert host in names
    assert deployment["spec"]["replicas"] == 1, "sessions live in the process"


def test_the_service_selects_the_deployment_s_pods() -> None:
    made = rendered(LEAST)
    (service,), (deployment,) = of_kind(made, "Service"), of_kind(made, "Deployment")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= labels.items()
    assert deployment["spec"]["selector"]["matchLabels"].items() <= labels.items()


def test_a_job_of_another_release_reaches_the_endpoint_and_nothing_else_of_this_one() -> None:
    policies = {one["metadata"]["name"]: one["spec"] for one in of_kind(rendered(VALUES["all"]), "NetworkPolicy")}
    ours = {"ziggurat/release": "ziggurat", "ziggurat/part": "ray"}
    anyone, port = [{"podSelector": {"matchLabels": {"ziggurat/part": "ray"}}}], [{"protocol": "TCP", "port": 8000}]
    same = [{"podSelector": {"matchLabels": ours}}]
    assert policies["ziggurat-ray"]["ingress"] == [{"from": same}, {"from": anyone, "ports": port}]
    assert policies["ziggurat-ray"]["egress"] == [{"to": same}, {"to": anyone, "ports": port}]


def test_storage_comes_by_reference() -> None:
    made = rendered({**LEAST, "storage": {"secret": "bucket", "claim": "videos"}})
    for pod in pods(made):
        assert {"name": "data", "persistentVolumeClaim": {"claimName": "videos"}} in pod.spec["volumes"], pod.where
        for container in pod.containers:
            assert container["envFrom"] == [{"secretRef": {"name": "bucket"}}], pod.where
            assert {"name": "data", "mountPath": "/data"} in container["volumeMounts"], pod.where


def test_what_the_endpoint_runs_is_in_ray() -> None:
    import yaml

    (service,) = of_kind(rendered(VALUES["all"]), "RayService")
    (application,) = yaml.safe_load(service["spec"]["serveConfigV2"])["applications"]
    module, name = application["import_path"].split(":")
    found = importlib.util.find_spec("ray")
    assert found is not None and found.submodule_search_locations is not None
    source = "/".join([found.submodule_search_locations[0], *module.split(".")[1:], "__init__.py"])
    with open(source) as file:  # importing it needs vLLM
        assert f"\ndef {name}(" in file.read()
