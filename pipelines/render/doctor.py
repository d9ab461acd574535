"""How the report of `ziggurat doctor` is shown. It imports nothing heavy: the report comes before all."""

from __future__ import annotations

import json
from dataclasses import asdict

from rich.console import Console
from rich.text import Text

from pipelines.doctor.report import Health

_MARKS = {"ok": "green", "absent": "dim", "MISSING": "bold red"}


def doctor(found: Health, as_json: bool) -> None:
    """Of `report.health`, its findings: one object a line, or a table for a person, where a command that gets something
    stands on a line of its own.
    """
    findings = found.findings
    if as_json:
        for finding in findings:
            print(json.dumps(asdict(finding)))
        return
    console = Console(soft_wrap=True, highlight=False, markup=False)
    width = max(len(finding.name) for finding in findings) + 2
    for index, finding in enumerate(findings):
        if index == 0 or finding.section != findings[index - 1].section:
            console.print(Text(f"{'' if index == 0 else chr(10)}{finding.section}", style="bold"))
        line = Text("  ").append(f"{finding.mark:<9}", style=_MARKS[finding.mark])
        console.print(line.append(f"{finding.name:<{width}}").append(finding.value))
        if finding.get:
            console.print(Text(f"{'':<11}{'':<{width}}-> {finding.get}", style="" if finding.needed else "dim"))
