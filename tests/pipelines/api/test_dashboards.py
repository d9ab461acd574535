"""The dashboard and the rules that ship ask for what the service really offers, by name and label; the docs name it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from curation.pyramid.store import Pyramid
from tests.pipelines.api.test_metrics import at_work

ROOT = Path(__file__).parents[3]
DASHBOARD, PROMETHEUS = ROOT / "deploy/grafana/ziggurat.json", ROOT / "deploy/prometheus"
OF_PROMETHEUS = {"job", "instance"}
"""Labels that every scraped series gets."""
Asked = tuple[str, set[str]]


def dashboard() -> Any:
    return json.loads(DASHBOARD.read_text())


def rules() -> list[dict[str, Any]]:
    return [
        rule for group in yaml.safe_load((PROMETHEUS / "rules.yml").read_text())["groups"] for rule in group["rules"]
    ]


def expressions() -> list[str]:
    panels = [panel for panel in dashboard()["panels"] if panel["type"] != "row"]
    assert len(panels) > 20 and len(rules()) > 5
    return [target["expr"] for panel in panels for target in panel["targets"]] + [rule["expr"] for rule in rules()]


def asked(expression: Any) -> Iterator[Asked]:
    """Each series that an expression reads, with the labels that it must have."""
    match expression:
        case promql_parser.VectorSelector():
            assert expression.name is not None
            yield expression.name, {matcher.name for matcher in expression.matchers.matchers}
        case promql_parser.MatrixSelector():
            yield from asked(expression.vector_selector)
        case promql_parser.Call():
            for one in expression.args:
                yield from asked(one)
        case promql_parser.AggregateExpr():
            by = {*expression.modifier.labels} if expression.modifier else set()
            yield from ((name, labels | by) for name, labels in asked(expression.expr))
        case promql_parser.BinaryExpr():
            on = (
                {*expression.modifier.matching.labels}
                if expression.modifier and expression.modifier.matching
                else set()
            )
            for side in (expression.lhs, expression.rhs):
                yield from ((name, labels | on) for name, labels in asked(side))
        case promql_parser.ParenExpr() | promql_parser.UnaryExpr():
            yield from asked(expression.expr)
        case _:
            assert isinstance(expression, promql_parser.NumberLiteral | promql_parser.StringLiteral), expression


@pytest.fixture
def offered(client: TestClient, pyramid: Pyramid) -> dict[str, set[str]]:
    """What a service tells of which a run is at work: the labels of every name."""
    at_work(pyramid)
    client.get("/api/tiers")
    found: dict[str, set[str]] = {"up": set()}
    for family in text_string_to_metric_families(client.get("/metrics").text):
        for one in family.samples:
            found.setdefault(one.name, set()).update(one.labels)
    return found


def test_every_expression_asks_for_what_is_offered(offered: dict[str, set[str]]) -> None:
    seen = set[str]()
    for expression in expressions():
        for name, labels in asked(promql_parser.parse(expression.replace("$job", "a").replace("$run", "b"))):
            assert name in offered, (name, expression)
            assert labels <= offered[name] | OF_PROMETHEUS, (name, labels - offered[name], expression)
            seen.add(name)
    assert len(seen) > 20
    for one in dashboard()["templating"]["list"][1:]:
        name, label = re.fullmatch(r"label_values\((\w+)(?:\{.*\})?, (\w+)\)", one["query"]["query"]).groups()  # type: ignore[union-attr]
        assert name in offered and label in offered[name] | OF_PROMETHEUS


def test_what_an_alert_says_names_labels_that_it_has(offered: dict[str, set[str]]) -> None:
    for rule in rules():
        known = {*OF_PROMETHEUS, *(label for name in offered if name in rule["expr"] for label in offered[name])}
        for text in rule["annotations"].values():
            assert {*re.findall(r"\$labels\.(\w+)", text)} <= known, rule["alert"]


def test_every_metric_has_its_line_in_the_docs(offered: dict[str, set[str]]) -> None:
    told = (ROOT / "docs/observability.md").read_text()
    names = {name for name in offered if name.startswith("ziggurat_")}
    plain = {re.sub(r"_(bucket|count|sum)$", "", name) if "_seconds_" in name else name for name in names}
    assert not [name for name in plain if not name.endswith("_created") and f"`{name}" not in told]
    assert {*re.findall(r"`(ziggurat_\w+)", told)} <= plain


def test_panels_have_places_of_their_own() -> None:
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken = set[tuple[int, int]]()
    for panel in panels:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken and max(x for x, _ in cells) < 24, panel["title"]
        taken |= cells


def test_the_scrape_config_reads_the_rules_and_sends_a_token() -> None:
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    assert [(PROMETHEUS / name).is_file() for name in config["rule_files"]] == [True]
    (job,) = config["scrape_configs"]
    assert job["metrics_path"] == "/metrics" and job["authorization"]["type"] == "Bearer"
    assert "credentials" not in job["authorization"], "no token is in the tree"
    assert {f'job="{job["job_name"]}"' in rule["expr"] for rule in rules()} == {True}
