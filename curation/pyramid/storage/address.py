"""Where a pyramid or an output is: a path, or the URI of an object store with its options behind a `?`.

    s3://bucket/folder?endpoint_override=host:9000&scheme=http

`store` and `curation.outputs` enter by it. Options are written as for sources (`curation.inputs.uris`), which Arrow
opens; Lance, which opens these, has other names for them: `located` translates. Credentials belong in the environment:
a URI ends up in logs and in the pyramid.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from urllib.parse import parse_qsl, urlsplit

from curation.errors import UserError
from curation.pyramid.storage import about
from curation.pyramid.storage.files import is_remote

SCHEMES = ("s3", "gs", "az", "abfss")
"""Object stores that pyramids and outputs are written to."""

_CREDENTIALS = "credentials belong in the environment (AWS_ACCESS_KEY_ID and so on)"


def located(uri: str | os.PathLike[str], given: Mapping[str, str] | None = None) -> tuple[str, dict[str, str] | None]:
    """The path or URI without options, and Lance's storage options for it; those `given` have the last word.

    UserError where an option is unknown or a secret is part of the URI; no message repeats it.
    """
    text = os.fspath(uri)
    if not is_remote(text.removeprefix("file://")):
        return about.normalize(text), dict(given) if given else None
    bare, question, query = text.partition("?")
    kind = bare.partition("://")[0].lower()
    if "@" in urlsplit(bare).netloc and kind != "abfss":
        raise UserError(f"a {kind} URI holds credentials", _CREDENTIALS)
    found = _translated(kind, query) if question else {}
    return about.normalize(bare), {**found, **(given or {})} or None


def _translated(kind: str, query: str) -> dict[str, str]:
    known = _OPTIONS.get(kind, {})
    found: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in known:
            there = f"there are {', '.join(known)}" if known else f"a {kind} URI takes none"
            raise UserError(f"a {kind} URI has no option {name[:80]!r}", f"{there}; {_CREDENTIALS}")
        if name in found or not value:
            raise UserError(f"the option {name} of a URI needs one value", f"write {name}=VALUE once")
        found[name] = value
    return {name: text for option in found for name, text in known[option](found).items()}


def _endpoint(key: str) -> Callable[[Mapping[str, str]], dict[str, str]]:
    """How `endpoint_override` and `scheme` become one address of Lance's, in its option `key`."""

    def endpoint(found: Mapping[str, str]) -> dict[str, str]:
        host, scheme = found["endpoint_override"], found.get("scheme", "https")
        whole = host if "://" in host else f"{scheme}://{host}"
        return {key: whole, "allow_http": str(whole.startswith("http://")).lower()}

    return endpoint


def _scheme(found: Mapping[str, str]) -> dict[str, str]:
    if found["scheme"] not in ("http", "https"):
        raise UserError(f"scheme={found['scheme'][:20]} is not a scheme of the network", "write http or https")
    return {}


def _virtual(found: Mapping[str, str]) -> dict[str, str]:
    if found["force_virtual_addressing"] not in ("true", "false"):
        raise UserError("force_virtual_addressing is true or false", "write one of them")
    return {"aws_virtual_hosted_style_request": found["force_virtual_addressing"]}


_OPTIONS: Mapping[str, Mapping[str, Callable[[Mapping[str, str]], dict[str, str]]]] = {
    "s3": {
        "endpoint_override": _endpoint("aws_endpoint"),
        "scheme": _scheme,
        "region": lambda found: {"aws_region": found["region"]},
        "force_virtual_addressing": _virtual,
    },
    "gs": {"endpoint_override": _endpoint("google_base_url"), "scheme": _scheme},
}
