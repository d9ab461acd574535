"""The listing of inputs: what is found, what is refused and why, that nothing is lost, and bounded memory.

That no name leaves the root (P13) is tested in `test_names_stay_inside.py`.
"""

from __future__ import annotations

import itertools
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import fs

from curation.contract import Reason, Source
from curation.errors import UserError
from curation.inputs import uris
from curation.inputs.sources import Refused, list_sources


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * 10)


def found(*arguments: str | Path, below: Path | None = None, **options: object) -> list[str]:
    """URIs of the sources, relative to `below`; fails where anything is refused."""
    entries = list(list_sources([str(argument) for argument in arguments], **options))  # type: ignore[arg-type]
    assert all(isinstance(entry, Source) for entry in entries), entries
    return [os.path.relpath(entry.uri, below) if below else entry.uri for entry in entries]


def refused(*arguments: str | Path, **options: object) -> dict[str, Reason]:
    entries = list_sources([str(argument) for argument in arguments], **options)  # type: ignore[arg-type]
    return {os.path.basename(e.uri): e.verdict.reason for e in entries if isinstance(e, Refused)}


class Store:
    """Stands for a remote store that has everything."""

    def get_file_info(self, path: str) -> fs.FileInfo:
        return fs.FileInfo(path, fs.FileType.File, size=7, mtime_ns=5_900_000_000)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "videos"
    names = [
        "b.mp4",
        "a/2.MKV",
        "a/1.mov",
        "a/deep/3.webm",
        "a/notes.md",
        ".hidden.mp4",
        ".cache/4.mp4",
        "c.bin",
    ]
    touch(*(root / name for name in names))
    return root


# --- files and folders ---


def test_a_folder_is_walked_in_order_for_known_extensions(tree: Path) -> None:
    assert found(tree, below=tree) == ["a/1.mov", "a/2.MKV", "a/deep/3.webm", "b.mp4"]


def test_other_extensions_can_be_asked_for(tree: Path) -> None:
    assert found(tree, below=tree, extensions=frozenset({".bin", ".md"})) == ["a/notes.md", "c.bin"]


def test_a_named_file_is_taken_whatever_its_extension_and_carries_size_and_time(tree: Path) -> None:
    (source,) = list_sources([str(tree / "c.bin")])
    assert source == Source(str(tree / "c.bin"), 10, (tree / "c.bin").stat().st_mtime)


def test_a_relative_argument_and_a_file_uri_name_the_same_file(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tree)
    spaced = tree / "a b%20.mp4"
    touch(spaced)
    assert found("a b%20.mp4", "./a b%20.mp4", spaced.as_uri()) == [str(spaced)]


def test_entries_named_twice_are_listed_once(tree: Path) -> None:
    overlapping = [tree, tree / "a", tree / "b.mp4", f"{tree}/**/*.mov", tree]
    assert sorted(found(*overlapping)) == sorted(found(tree))


def test_a_name_that_is_not_utf8_is_listed_and_leads_back_to_its_file(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/\xff.mp4"
    with open(path, "wb") as file:
        file.write(b"x")
    (uri,) = found(tmp_path)
    assert pa.array([uri]).to_pylist() == [uri]
    assert os.fsencode(uris.local_path(uri) or "") == path


def test_what_is_no_file_is_refused_and_not_lost(tmp_path: Path) -> None:
    touch(tmp_path / "good.mp4", tmp_path / "folder.mp4" / "inner.mp4")
    os.mkfifo(tmp_path / "pipe.mp4")
    os.mkfifo(tmp_path / "other.sock")
    entries = list(list_sources([str(tmp_path)]))
    assert [(Path(e.uri).name, type(e).__name__) for e in entries] == [
        ("folder.mp4", "Refused"),
        ("inner.mp4", "Source"),
        ("good.mp4", "Source"),
        ("pipe.mp4", "Refused"),
    ]
    assert set(refused(tmp_path).values()) == {Reason.NOT_A_FILE}
    assert refused(tmp_path / "pipe.mp4") == {"pipe.mp4": Reason.NOT_A_FILE}
    assert refused("/dev/null") == {"null": Reason.NOT_A_FILE}


def test_links(tree: Path, tmp_path: Path) -> None:
    touch(tmp_path / "secret" / "s.mp4")
    links = {
        "inside.mp4": "a/1.mov",
        "blob.mp4": ".cache/4.mp4",  # the layout of content-addressed caches: good names, hidden bytes
        "outside.mp4": "../secret/s.mp4",
        "outside": "../secret",
        "broken.mp4": "nowhere",
        "loop": ".",
        "hidden": ".cache",
        "text.md": "/etc/passwd",
    }
    for name, target in links.items():
        (tree / name).symlink_to(target)
    assert refused(tree) == {
        "outside.mp4": Reason.OUTSIDE,
        "outside": Reason.OUTSIDE,
        "broken.mp4": Reason.UNREADABLE,
        "hidden": Reason.OUTSIDE,
    }
    listed = [Path(e.uri).name for e in list_sources([str(tree)]) if isinstance(e, Source)]
    assert listed == ["1.mov", "2.MKV", "3.webm", "b.mp4", "blob.mp4", "inside.mp4"]
    assert found(tree / "outside.mp4") == [str(tree / "outside.mp4")]  # named by the person, so taken


def test_links_that_lead_out_are_taken_when_a_person_says_so(tmp_path: Path) -> None:
    """Under their own names; loops end, a place that is reached twice is walked once, what is no file stays refused."""
    tree, far = tmp_path / "top" / "videos", tmp_path / "top" / "far"
    touch(tree / "b.mp4", far / "s.mp4", far / "deep" / "t.mp4", far / ".dot" / "u.mp4", tmp_path / "above.mp4")
    os.mkfifo(far / "pipe.mp4")
    links = {
        "out.mp4": "../far/s.mp4",
        "far": "../far",
        "far again": "../far/deep",
        "up": "../..",
        "loop": ".",
        "device.mp4": "/dev/zero",
        "broken.mp4": "/nowhere",
        "round.mp4": "round.mp4",
    }
    for name, target in links.items():
        (tree / name).symlink_to(target)
    (far / "back").symlink_to("../videos")
    (far / "dot").symlink_to(".dot")
    without = list_sources([str(tree)])
    assert all(Path(entry.uri).parent == tree for entry in without)
    assert without.tally.links_out == 6
    assert without.notices() == ["6 links lead out of the folders that were named: --follow-links takes them"]
    refusals = {e.verdict.detail for e in list_sources([str(tree)]) if isinstance(e, Refused)}
    assert f"a link that leads outside {tree}; --follow-links takes it" in refusals
    assert refused(tree, follow_links=True) == {
        "device.mp4": Reason.NOT_A_FILE,
        "pipe.mp4": Reason.NOT_A_FILE,
        "broken.mp4": Reason.UNREADABLE,
        "round.mp4": Reason.UNREADABLE,
        "dot": Reason.OUTSIDE,
    }
    entries = list_sources([str(tree)], follow_links=True)
    taken = sorted(os.path.relpath(e.uri, tree) for e in entries if isinstance(e, Source))
    assert taken == ["b.mp4", "far/deep/t.mp4", "far/s.mp4", "out.mp4", "up/above.mp4"]


def test_following_links_and_a_root_exclude_each_other(tree: Path) -> None:
    with pytest.raises(UserError, match="exclude each other"):
        list_sources(["a"], root=str(tree), follow_links=True)


def test_a_hubs_cache_is_taken_and_what_only_looks_like_one_is_not(tmp_path: Path) -> None:
    home = tmp_path / "datasets--x"
    touch(home / "blobs" / "0123", home / "other" / "4567", tmp_path / "evil" / "blobs" / "89", home / "blobs/in/ab")
    shot = home / "snapshots" / "abc"
    (shot / "sub").mkdir(parents=True)
    (shot / "v.mp4").symlink_to("../../blobs/0123")
    (shot / "sub" / "w.mp4").symlink_to("../../../blobs/0123")
    (shot / "other.mp4").symlink_to("../../other/4567")
    (shot / "evil.mp4").symlink_to("../../../evil/blobs/89")
    (shot / "deep.mp4").symlink_to("../../blobs/in/ab")
    (shot / "blobs").symlink_to("../../blobs")
    taken = [os.path.relpath(e.uri, shot) for e in list_sources([str(shot)]) if isinstance(e, Source)]
    assert taken == ["sub/w.mp4", "v.mp4"]
    assert set(refused(shot)) == {"other.mp4", "evil.mp4", "deep.mp4", "blobs"}
    confined = list_sources(["datasets--x/snapshots/abc"], root=str(tmp_path))
    assert all(isinstance(entry, Refused) for entry in confined)


def test_what_a_folder_holds_and_is_not_taken_is_counted(tree: Path) -> None:
    touch(tree / "a" / "b.TXT", tree / "Makefile", tree / "x.bin")
    (tree / "notes").symlink_to("a/notes.md")
    listing = list_sources([str(tree)])
    taken = len(list(listing))
    assert listing.tally.passed_over == {"hidden": 2, ".bin": 2, ".md": 1, ".txt": 1, "no extension": 2}
    files = sum(len(names) for _, _, names in os.walk(tree)) - 1  # a hidden folder counts once, whatever it holds
    assert taken + sum(listing.tally.passed_over.values()) == files + 1
    asked_for = list_sources([f"{tree}/*.mp4"])
    assert list(asked_for)
    assert asked_for.tally.passed_over == {"hidden": 1}  # a pattern says itself what it leaves


def test_an_argument_without_a_video_says_what_it_holds(tmp_path: Path) -> None:
    touch(tmp_path / "a.srt", tmp_path / "b.srt", tmp_path / "c.md")
    with pytest.raises(UserError, match=r"looked for .*; found 2 \.srt, 1 \.md; name files outright"):
        list_sources([str(tmp_path)])


def test_an_unreadable_folder_below_is_reported_and_the_rest_goes_on(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scandir = os.scandir

    def guarded(path: str) -> object:
        if str(path).endswith("/a"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    assert refused(tree) == {"a": Reason.UNREADABLE}
    assert [Path(e.uri).name for e in list_sources([str(tree)])] == ["a", "b.mp4"]
    with pytest.raises(UserError, match="Permission denied"):
        list_sources([str(tree / "a")])


# --- globs ---


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("*.mp4", ["b.mp4"]),
        ("*", ["a/1.mov", "a/2.MKV", "a/deep/3.webm", "b.mp4"]),
        ("*/*.m*", ["a/1.mov"]),
        ("*/[12].*", ["a/1.mov", "a/2.MKV"]),
        ("**", ["a/1.mov", "a/2.MKV", "a/deep/3.webm", "b.mp4"]),
        ("**/*.webm", ["a/deep/3.webm"]),
        ("a/**/?.webm", ["a/deep/3.webm"]),
        ("**/deep/**", ["a/deep/3.webm"]),
        ("*.bin", ["c.bin"]),
    ],
)
def test_globs(tree: Path, pattern: str, names: list[str]) -> None:
    assert found(f"{tree}/{pattern}", below=tree) == names


def test_a_file_whose_name_looks_like_a_glob_is_that_file(tmp_path: Path) -> None:
    touch(tmp_path / "clip[1].mp4", tmp_path / "clip1.mp4")
    assert found(tmp_path / "clip[1].mp4", below=tmp_path) == ["clip[1].mp4"]


# --- lists ---


def write_text(path: Path, names: list[str]) -> Path:
    path = path.with_suffix(".txt")
    path.write_text("\ufeff# a comment\r\n\r\n" + "\r\n".join(names))
    return path


def write_csv(path: Path, names: list[str]) -> Path:
    path = path.with_suffix(".csv")
    path.write_text("id,URL\n" + "".join(f'{index},"{name}"\n' for index, name in enumerate(names)))
    return path


def write_parquet(path: Path, names: list[str]) -> Path:
    path = path.with_suffix(".parquet")
    pq.write_table(pa.table({"id": range(len(names)), "path": pa.array(names).dictionary_encode()}), path)
    return path


Writer = Callable[[Path, list[str]], Path]
FORMATS = pytest.mark.parametrize("writer", [write_text, write_csv, write_parquet])


@FORMATS
def test_a_list_names_files_beside_it_in_its_order(tree: Path, writer: Writer) -> None:
    names = ["b.mp4", "a/1.mov", "c.bin", "b.mp4"]
    assert found(writer(tree / "list", names), below=tree) == ["b.mp4", "a/1.mov", "c.bin"]


@FORMATS
def test_every_bad_name_in_a_list_is_reported(tree: Path, writer: Writer) -> None:
    names = [
        "../x.mp4",
        "a/../b.mp4",
        "http://host/x.mp4",
        "concat:a|b",
        "pipe:0",
        "/etc/passwd",
        "a",
        "gone.mp4",
    ]
    entries = list(list_sources([str(writer(tree / "list", names))]))
    reasons = {entry.uri: entry.verdict.reason for entry in entries if isinstance(entry, Refused)}
    assert reasons == {
        **dict.fromkeys(names[:6], Reason.OUTSIDE),
        str(tree / "a"): Reason.NOT_A_FILE,
        str(tree / "gone.mp4"): Reason.UNREADABLE,
    }


@FORMATS
def test_a_person_may_list_places_anywhere_but_not_climb(
    tree: Path, tmp_path: Path, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uris, "remote", lambda uri: (Store(), uri))
    touch(tmp_path / "elsewhere.mp4")
    names = [
        str(tmp_path / "elsewhere.mp4"),
        "s3://bucket/key.mp4",
        "../elsewhere.mp4",
        "s3://b/k?endpoint_override=evil",
    ]
    path = writer(tree / "list", names)
    entries = list(list_sources([str(path)], allow_outside=True))
    assert [e.uri for e in entries if isinstance(e, Source)] == names[:2]
    assert [e.uri for e in entries if isinstance(e, Refused)] == names[2:]
    without = list(list_sources([str(path)]))
    assert len(without) == 4
    assert all(isinstance(entry, Refused) for entry in without)


def test_a_headerless_column_loses_no_entry(tree: Path) -> None:
    (tree / "list.csv").write_text("b.mp4\na/1.mov\n")
    assert found(tree / "list.csv", below=tree) == ["b.mp4", "a/1.mov"]
    (tree / "list.csv").write_text("whatever\nb.mp4\n")
    assert found(tree / "list.csv", below=tree) == ["b.mp4"]


def test_an_empty_cell_and_an_overlong_line_are_reported(tree: Path) -> None:
    (tree / "list.csv").write_text("id,uri\n1,\n2,b.mp4\n3\n")
    assert [type(e).__name__ for e in list_sources([str(tree / "list.csv")])] == ["Refused", "Source", "Refused"]
    (tree / "list.txt").write_text("x" * 200_000 + "\nb.mp4\n")
    assert [type(e).__name__ for e in list_sources([str(tree / "list.txt")])] == ["Refused", "Source"]


# --- what a person is told ---


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere.mp4", "does not exist; check"),
        ("nowhere/*.mp4", "does not exist; check"),
        ("empty", r"holds no video files; looked for .*\.mkv .*; name files outright"),
        ("empty/*.mp4", "holds no video files"),
        ("empty.txt", "holds no names"),
        ("two.csv", "has no column of names: it has a, b; call the column uri or path or url or file_name"),
        ("numbers.parquet", "column 'uri' of .*numbers.parquet holds int64; it must hold strings"),
        ("fake.parquet", "is not a Parquet file"),
        ("http://host/x.mp4", "is refused: 'http:' is not one of"),
        ("concat:a|b", "is refused"),
        ("s3://key:secret@bucket/x", "credentials in a URI"),
        ("s3://bucket/a?x=*", "use \\* or"),
        ("a\0b", "NUL"),
        ("", "an empty name"),
    ],
)
def test_mistakes_are_named_before_any_entry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "readme.md").write_text("nothing to see")
    (tmp_path / "empty.txt").write_text("# only a comment\n")
    (tmp_path / "two.csv").write_text("a,b\n1,2\n")
    (tmp_path / "fake.parquet").write_text("no")
    pq.write_table(pa.table({"uri": [1, 2]}), tmp_path / "numbers.parquet")
    touch(tmp_path / "good.mp4")
    with pytest.raises(UserError, match=message):
        list_sources(["good.mp4", name])  # not iterated: the mistake shows at once


def test_no_argument_at_all() -> None:
    with pytest.raises(UserError, match="no input was named"):
        list_sources([])


# --- size ---


def test_fifty_thousand_entries_stream_in_bounded_memory(tmp_path: Path) -> None:
    for folder in range(100):
        (tmp_path / f"{folder:03}").mkdir()
        for name in range(500):
            os.close(os.open(tmp_path / f"{folder:03}" / f"{name:05}.mp4", os.O_CREAT | os.O_WRONLY))
    tracemalloc.start()
    try:
        listing = list_sources([str(tmp_path)])
        first = next(listing)
        tracemalloc.reset_peak()
        count = 1 + sum(1 for _ in listing)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert first.uri.endswith("000/00000.mp4")
    assert count == 50_000
    assert peak < 1 << 20  # a list of all of them takes 20 MB


def test_a_long_list_streams(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uris, "remote", lambda uri: (Store(), uri))
    touch(tmp_path / "a.mp4")
    with open(tmp_path / "list.txt", "w") as file:
        file.writelines(f"s3://bucket/{index}.mp4\n" for index in range(200_000))
    tracemalloc.start()
    try:
        listing = list_sources([str(tmp_path / "list.txt")], allow_outside=True)
        taken = sum(1 for _ in itertools.islice(listing, 20_000))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert taken == 20_000
    assert peak < 1 << 20
