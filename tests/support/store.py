"""An object store for tests: moto's S3 server in a process of its own, and the environment that leads to it.

The server listens on this machine only, and no proxy of the network stands between it and those who ask it.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pytest

BUCKET = "bucket"
_LISTENS = re.compile(rb"Running on http://127\.0\.0\.1:(\d+)")
_KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": "us-east-1"}


@dataclass(frozen=True)
class Store:
    """A server at a port of this machine, with one bucket."""

    port: int

    @property
    def environment(self) -> dict[str, str]:
        return environment(self.port)

    def upload(self, folder: Path, prefix: str) -> str:
        """Put the files of `folder` below `prefix`; the URI of that."""
        client = self._client()
        for path in sorted(folder.iterdir()):
            client.upload_file(str(path), BUCKET, f"{prefix}/{path.name}")
        return f"s3://{BUCKET}/{prefix}"

    def keys(self, prefix: str) -> list[str]:
        found = self._client().list_objects_v2(Bucket=BUCKET, Prefix=prefix)
        return [entry["Key"] for entry in found.get("Contents", ())]

    def content(self, key: str) -> bytes:
        return self._client().get_object(Bucket=BUCKET, Key=key)["Body"].read()

    def create_bucket(self) -> None:
        self._client().create_bucket(Bucket=BUCKET)

    def _client(self) -> Any:
        boto3 = pytest.importorskip("boto3", reason="needs boto3: pip install boto3")
        from botocore.config import Config

        keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-east-1"}
        return boto3.client("s3", endpoint_url=f"http://127.0.0.1:{self.port}", config=Config(proxies={}), **keys)


def environment(port: int) -> dict[str, str]:
    """What a user sets to reach a store that is not Amazon's: here one at `port` of this machine."""
    local = "127.0.0.1,localhost"
    endpoint = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "AWS_ALLOW_HTTP": "true"}
    return {**_KEYS, **endpoint, "AWS_EC2_METADATA_DISABLED": "true", "NO_PROXY": local, "no_proxy": local}


@contextlib.contextmanager
def served() -> Iterator[Store]:
    """A server with one empty bucket; it ends with the block, and what it held with it."""
    pytest.importorskip("moto.server", reason="needs moto[server]: pip install 'moto[server]' boto3")
    command = [sys.executable, "-u", "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"]
    with tempfile.TemporaryFile() as log, subprocess.Popen(command, stdout=log, stderr=log) as server:
        try:
            store = Store(_port(server, log))
            store.create_bucket()
            yield store
        finally:
            server.terminate()


def _port(server: subprocess.Popen[bytes], log: IO[bytes]) -> int:
    """The port that the server has chosen, from what it says when it listens."""
    while True:
        running = server.poll() is None
        said = os.pread(log.fileno(), 4096, 0)
        if found := _LISTENS.search(said):
            return int(found[1])
        assert running, f"the server did not start: {said.decode()}"
        time.sleep(0.05)
