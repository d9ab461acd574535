"""Promise P13: no name or URI leaves the root, whether given as an argument or found in a list or behind a link.

Hypothesis puts names together from the pieces that break out of things; the cage has a door for each of them.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from curation.contract import Source
from curation.errors import UserError
from curation.inputs import uris
from curation.inputs.sources import Refused, list_sources
from tests.curation.inputs.test_sources import touch

_PIECES = st.sampled_from(
    [
        "..",
        ".",
        "/",
        "//",
        "\\",
        "\x00",
        "\n",
        "\t",
        " ",
        "%2e%2e",
        "%2f",
        "%00",
        "%2e",
        "a",
        "b.mp4",
        "out",
        "in",
        "link",
        "twin",
        "back",
        "file:",
        "file://",
        "s3://",
        "s3:",
        "gs://",
        "http:",
        "concat:",
        "pipe:",
        "data:",
        "crypto+file:",
        "bucket",
        "@",
        "?",
        "#",
        "|",
        ":",
        "~",
        "$HOME",
        "*",
        "é",
        "�",
        "?endpoint_override=evil",
        "localhost",
        "secret.mp4",
    ]
)
NAMES = st.lists(_PIECES, max_size=9).map("".join) | st.text(max_size=30)


@pytest.fixture(scope="module")
def cage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with everything one needs to break out of it, and what must not be reached beside it."""
    top = tmp_path_factory.mktemp("cage")
    touch(top / "in" / "a" / "b.mp4", top / "in" / "b.mp4", top / "out" / "secret.mp4")
    touch(top / "inner" / "secret.mp4")  # a neighbour whose name starts as the root's does
    (top / "in" / "link").symlink_to(top / "out")
    (top / "in" / "twin").symlink_to(top / "inner")
    (top / "in" / "a" / "secret.mp4").symlink_to("../../out/secret.mp4")
    (top / "in" / "back").symlink_to("a")
    return top / "in"


def escapes(entry: Source | Refused, root: Path) -> bool:
    if isinstance(entry, Refused):
        return False
    path = uris.local_path(entry.uri)
    return path is None or not os.path.realpath(path).startswith(f"{root.resolve()}/")


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(NAMES)
@example("link/secret.mp4")
@example("twin/secret.mp4")
@example("a/../../out/secret.mp4")
@example("file:///etc/passwd")
@example("/etc/passwd")
@example("back/../../out/secret.mp4")
def test_no_name_resolves_outside_a_local_root(cage: Path, name: str) -> None:
    try:
        uri = uris.resolve(name, str(cage))
    except uris.Forbidden:
        return
    path = uris.local_path(uri)
    assert path is not None
    assert "\0" not in path
    assert (os.path.realpath(path) + "/").startswith(f"{cage.resolve()}/")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(NAMES)
@example("*")
@example("**")
@example("*/secret.mp4")
@example("link/*")
@example("li*/secret.mp4")
def test_no_argument_lists_anything_outside_the_root(cage: Path, name: str) -> None:
    try:
        entries = list(list_sources([name], root=str(cage)))
    except UserError:
        return
    assert not [entry for entry in entries if escapes(entry, cage)]


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        NAMES.filter(lambda name: not re.search("[\r\n\ud800-\udc7f\udd00-\udfff]", name)),
        min_size=1,
        max_size=5,
    )
)
@example(["link/secret.mp4", "a/secret.mp4", "../out/secret.mp4", "b.mp4"])
def test_no_line_of_a_list_leads_outside_its_folder_and_none_is_lost(cage: Path, names: list[str]) -> None:
    lines = list({line.strip(): None for line in names if line.strip() and not line.strip().startswith("#")})
    (cage / "list.txt").write_bytes("\n".join(["b.mp4", *lines]).encode(errors="surrogateescape"))
    entries = list(list_sources([str(cage / "list.txt")]))
    assert not [entry for entry in entries if escapes(entry, cage)]
    # None is lost: two lines may share an entry only where they name the same file.
    reached = {entry.uri for entry in entries}
    for number, line in enumerate(lines, 2):
        try:
            uri = uris.resolve(line, str(cage))
        except uris.Forbidden:
            uri = line.encode(errors="backslashreplace").decode()
            if uris.redacted(line) != line:  # it holds what is not to be repeated
                uri = f"{cage}/list.txt, row {number}"
        assert uri in reached, line


@settings(max_examples=300, deadline=None)
@given(NAMES)
@example("../other/x.mp4")
@example("%2e%2e/other")
@example("s3://other/x.mp4")
@example("s3://bucket/folder/%2e%2e/x.mp4")
@example("s3://bucket/folderx/y.mp4")
@example("s3://bucket@evil/folder/x.mp4")
@example("s3://bucket/folder/x.mp4?endpoint_override=evil")
def test_no_name_resolves_outside_a_remote_root(name: str) -> None:
    try:
        uri = uris.resolve(name, "s3://bucket/folder")
    except uris.Forbidden:
        return
    parts = urlsplit(uri)  # what the opener makes of it, not how it looks
    assert (parts.scheme.lower(), parts.netloc, parts.query) == ("s3", "bucket", "")
    assert unquote(parts.path).startswith("/folder/")
    assert ".." not in unquote(parts.path).split("/")
