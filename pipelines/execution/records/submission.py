"""Whether this process is the driver of a job that was submitted to a Ray cluster, and under which id.

Ray's supervisor of the job says so in the driver's environment; the run's record keeps it, so that `ziggurat jobs`
finds the one by the other, also after the cluster is gone.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping

JOB_CONFIG = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""The variable (Ray calls it so) with the job's metadata, as JSON."""

_ID = "job_submission_id"


def submission(environment: Mapping[str, str] = os.environ) -> str | None:
    """The id of the submission whose driver this is; None for a command that was typed."""
    try:
        found = json.loads(environment.get(JOB_CONFIG, "{}"))
    except ValueError:
        return None
    metadata = found.get("metadata") if isinstance(found, dict) else None
    named = metadata.get(_ID) if isinstance(metadata, dict) else None
    return named if isinstance(named, str) else None
