"""Objects of S3 whose keys are no paths: `day//a.mp4`, `/a.mp4`, `./a.mp4`.

S3 allows such keys, and scripts that join "set/" and "/day" write them. pyarrow lists them but cannot name one, so
`staging` reads them here with boto3, where that is installed; credentials come from the environment as they do there.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from pyarrow import fs

from curation.errors import UserError
from curation.inputs import uris


def is_odd(uri: str) -> bool:
    """Whether a remote URI names an object that has a part pyarrow takes for no name."""
    key = unquote(urlsplit(uri).path).removeprefix("/").rstrip("/")
    return bool(key) and any(part in ("", ".") for part in key.split("/"))


def opened(uri: str) -> tuple[Bucket, str] | None:
    """The bucket and the key of an odd S3 URI, None for any other. Raises `UserError` where boto3 is missing."""
    uris.check(uri)
    if uris.scheme(uri) != "s3" or not is_odd(uri):
        return None
    parts = urlsplit(uri)
    return _bucket(parts.netloc, parts.query), unquote(parts.path).removeprefix("/")


def readable(uri: str) -> str:
    """The URI. Raises `UserError` where its object could not be read for want of boto3: one line while sources are
    listed, instead of a failure for each of them.
    """
    if uris.scheme(uri) == "s3" and is_odd(uri):
        _boto3()
    return uri


class Bucket:
    """The two calls of `pyarrow.fs.FileSystem` that staging makes, for any key of one bucket."""

    def __init__(self, name: str, client: Any) -> None:
        self._name, self._client = name, client

    def get_file_info(self, key: str) -> fs.FileInfo:
        try:
            with _as_os_errors():
                found = self._client.head_object(Bucket=self._name, Key=key)
        except FileNotFoundError:
            return fs.FileInfo(key, fs.FileType.NotFound)
        return fs.FileInfo(key, fs.FileType.File, mtime=found["LastModified"], size=found["ContentLength"])

    @contextmanager
    def open_input_stream(self, key: str) -> Iterator[_Body]:
        with _as_os_errors():
            body = self._client.get_object(Bucket=self._name, Key=key)["Body"]
        try:
            yield _Body(body)
        finally:
            body.close()


class _Body:
    def __init__(self, body: Any) -> None:
        self._body = body

    def read(self, count: int) -> bytes:
        with _as_os_errors():
            return self._body.read(count)


@contextmanager
def _as_os_errors() -> Iterator[None]:
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as error:
        missing = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") == 404
        raise (FileNotFoundError if missing else OSError)(str(error)) from error
    except BotoCoreError as error:
        raise OSError(str(error)) from error


def _boto3() -> Any:
    try:
        import boto3
    except ImportError as error:
        cause = "an S3 key with an empty or '.' part, as in 'day//a.mp4', is read with boto3, which is missing"
        raise UserError(cause, "pip install boto3, on every machine of the run") from error
    return boto3


@functools.lru_cache(maxsize=16)
def _bucket(name: str, query: str) -> Bucket:
    boto3 = _boto3()
    options = {key: values[-1] for key, values in parse_qs(query).items()}
    endpoint = options.get("endpoint_override")
    if endpoint and "://" not in endpoint:
        endpoint = f"{options.get('scheme', 'https')}://{endpoint}"
    return Bucket(name, boto3.client("s3", endpoint_url=endpoint, region_name=options.get("region")))
