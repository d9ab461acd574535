"""No secret of a source's URI is repeated: not in an error, not in the name of a row that is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.errors import UserError
from curation.inputs import uris
from curation.inputs.folders import Refused
from curation.inputs.sources import list_sources

SECRET = "pa55phrase"
SCHEMES = st.sampled_from(["s3", "gs", "http", "https", "ftp", "az", "abfss", "hdfs", "S3"])
OPTIONS = st.sampled_from(
    [
        "secret_key",
        "access_key",
        "token",
        "X-Amz-Signature",
        "X-Amz-Credential",
        "sig",
        "password",
        "SecretKey",
        "%73ig",
    ]
)


@st.composite
def secretive(draw: st.DrawFn) -> str:
    """A URI with a secret, as its user's password, as its user, or in an option."""
    kind, place = draw(SCHEMES), draw(st.sampled_from(["bucket/a.mp4", "host:9000/x/b.mp4", "b"]))
    option = draw(OPTIONS)
    users = [f"user:{SECRET}", f"user:a/{SECRET}", f"user:{SECRET}/b+c"]
    forms = [f"{user}@{place}" for user in users]
    forms += [f"{place}?{option}={SECRET}", f"{place}?region=eu&{option}={SECRET}&scheme=http"]
    if not kind.startswith("abfs"):
        forms.append(f"{SECRET}@{place}")
    return f"{kind}://{draw(st.sampled_from(forms))}"


@given(secretive())
def test_no_error_about_a_source_repeats_its_secrets(name: str) -> None:
    with pytest.raises(UserError) as caught:
        list(list_sources([name]))
    assert SECRET not in str(caught.value) and "\n" not in str(caught.value)
    assert SECRET not in uris.redacted(name)


@given(secretive())
def test_a_row_with_secrets_is_called_by_its_place(name: str) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "list.jsonl"
        path.write_text(json.dumps({"path": name}) + "\n")
        (found,) = list_sources([str(path)], allow_outside=True)
    assert isinstance(found, Refused)
    assert found.uri.endswith("list.jsonl, row 1")
    assert SECRET not in found.verdict.detail


@pytest.mark.parametrize(
    "name",
    [
        "/in/key=1.mp4",
        "a b?token=x.mp4",
        "s3://bucket/a.mp4?region=eu-west-1&endpoint_override=host:9000&scheme=http",
        "abfss://films@account/x.mp4?credential_kind=anonymous",
        "https://host/a.mp4?x=1",
        "s3://bucket/a:b@c.mp4",
        "hdfs://host:9000/me@work/a.mp4",
    ],
)
def test_what_holds_no_secret_is_told_whole(name: str) -> None:
    assert uris.redacted(name) == name
