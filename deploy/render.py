"""Renders the chart as plain manifests: `python deploy/render.py` writes `deploy/kubernetes/*.yaml`.

The chart is the source; whoever has no Helm applies these. A test renders again and compares. Needs helm-python-sdk.
"""

from __future__ import annotations

from pathlib import Path

import yaml

HERE = Path(__file__).parent
TO = HERE / "kubernetes"
RELEASE = "ziggurat"
HEADER = "# Rendered from deploy/chart with deploy/kubernetes/values.yaml by deploy/render.py.\n"


def rendered() -> dict[str, str]:
    """File names and their content, of templates that make something."""
    from helm_python import Chart

    values = yaml.safe_load((TO / "values.yaml").read_text())
    with Chart.load(HERE / "chart") as chart:
        made = chart.render(values=values, name=RELEASE, namespace=RELEASE)
    return {Path(path).name: f"{HEADER}{text.strip()}\n" for path, text in made.items() if text.strip()}


if __name__ == "__main__":
    for name, text in rendered().items():
        (TO / name).write_text(text)
