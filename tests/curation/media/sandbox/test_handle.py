"""A video by its descriptor: the same as by its path, however often and in whatever order it is opened."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.media.probe import open_media
from curation.media.sandbox.handle import Reader, held, path_of, reading, size_of, source
from tests.support import media
from tests.support.measuring import as_clips, cuts, measured

CONTENT = bytes(range(256)) * 5
MOVES = st.lists(st.tuples(st.sampled_from(["read", "set", "cur", "end"]), st.integers(-2000, 2000)), max_size=30)


@given(MOVES)
def test_a_reader_moves_as_a_file_does(moves: list[tuple[str, int]]) -> None:
    descriptor = os.memfd_create("file")
    try:
        os.write(descriptor, CONTENT)
        reader, other = Reader(descriptor), Reader(descriptor)
        with os.fdopen(os.dup(descriptor), "rb", buffering=0) as file:
            file.seek(0)
            for kind, count in moves:
                if kind == "read":
                    assert reader.read(abs(count)) == file.read(abs(count))
                    continue
                whence = {"set": os.SEEK_SET, "cur": os.SEEK_CUR, "end": os.SEEK_END}[kind]
                try:
                    there = file.seek(count, whence)
                except OSError:
                    there = -errno.EINVAL
                assert reader.seek(count, whence) == there
                assert reader.tell() == file.tell()
        assert other.read(3) == CONTENT[:3]
    finally:
        os.close(descriptor)


def test_a_path_stays_a_path(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"content")
    assert source(tmp_path / "a") == str(tmp_path / "a")
    with reading(tmp_path / "a") as file:
        assert file.read(3) == b"con"


@pytest.mark.parametrize("name", ["scenes.mp4", "plain.mp4"])
def test_the_passes_find_the_same_by_descriptor(name: str) -> None:
    path = media.sample(name)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        held = path_of(descriptor)
        with reading(held) as by_number, reading(path) as by_name:
            assert by_number.read(100) == by_name.read(100)
        by_path, by_descriptor = measured(path), measured(held)
        assert by_path == by_descriptor
        assert cuts(held, as_clips(by_path)) == cuts(path, as_clips(by_path))
    finally:
        os.close(descriptor)


def test_bytes_that_are_held_are_read_like_a_file_until_the_block_ends() -> None:
    content = media.sample("plain.mp4").read_bytes()
    with held(content) as path:
        assert size_of(path) == len(content)
        with open_media(path) as (container, stream), open_media(path) as (again, other):
            assert next(container.decode(stream)).width == next(again.decode(other)).width == 320
    with pytest.raises(FileNotFoundError), reading(path):
        pass
