"""Lists: every delimiter and encoding that a person's programs write, further columns kept, mistakes in one line."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from curation.contract import Source
from curation.errors import UserError
from curation.inputs import kinds, lists, own_columns
from curation.inputs.sources import Refused, list_sources


def rows(content: bytes | str, name: str = "list.csv") -> list[tuple[str, dict[str, Any]]]:
    raw = content.encode() if isinstance(content, str) else content
    return [(row.name, json.loads(row.extra or "{}")) for row in lists.rows(io.BytesIO(raw), name)]


PLAIN = [("a.mp4", {"id": "1", "caption": "x"})]


@pytest.mark.parametrize(
    "content",
    [
        "id,path,caption\n1,a.mp4,x\n",
        "id;path;caption\n1;a.mp4;x\n",
        "id\tpath\tcaption\n1\ta.mp4\tx\n",
        "id|path|caption\r\n1|a.mp4|x\r\n",
        "id;path;caption\r1;a.mp4;x\r",
        '"id";"Path";"caption"\n"1";"a.mp4";"x"\n',
        "\ufeffid;path;caption\r\n1;a.mp4;x\r\n",
        "sep=;\r\nid;path;caption\r\n1;a.mp4;x\r\n",
        "\n\nid;path;caption;\n1;a.mp4;x;\n",
        " id ; PATH ; caption \n1; a.mp4 ;x\n",
        "id;path;caption\n1;a.mp4;x\n\n\n".encode("utf-16"),
        "id,path,caption\n1,a.mp4,x".encode("utf-16-le").join([b"\xff\xfe", b""]),
    ],
)
@pytest.mark.parametrize("name", ["list.csv", "LIST.TSV", "list.txt", "s3://b/list.csv?endpoint_override=h"])
def test_a_table_is_read_whatever_wrote_it(content: str | bytes, name: str) -> None:
    assert rows(content, name) == PLAIN


CAPTIONS = st.text(st.sampled_from(list('""\', ab.;é')), max_size=8)


@settings(max_examples=400, deadline=None)
@example(written=['",', '"'], suffixes=[".mp4"] * 5, first=False, delimiter=",")
@given(
    written=st.lists(CAPTIONS, min_size=1, max_size=5),
    suffixes=st.lists(st.sampled_from([".mp4", ".mkv", ""]), min_size=5, max_size=5),
    first=st.booleans(),
    delimiter=st.sampled_from(",\t;"),
)
def test_no_row_is_lost_to_a_quotation_mark(
    written: list[str], suffixes: list[str], first: bool, delimiter: str
) -> None:
    """Captions written as they are, as by a program that knows no quotes: all rows come, or the command stops."""
    names = [f"clips/v{number}{end}" for number, end in zip(range(len(written)), suffixes, strict=False)]
    pairs = [(name, text) if first else (text, name) for name, text in zip(names, written, strict=True)]
    lines = [delimiter.join(pair) for pair in [("path", "caption") if first else ("caption", "path"), *pairs]]
    try:
        found = [name for name, _ in rows("\n".join(lines) + "\n")]
    except UserError:
        return
    assert len(found) == len(names)  # a name that a caption has spoilt is of no file, which its run tells


@given(st.lists(st.text(st.characters(exclude_categories=["Cs", "Cc"]) | st.just("\n"), max_size=12), max_size=4))
def test_captions_of_several_lines_are_read(written: list[str]) -> None:
    place = io.StringIO()
    table = csv.writer(place, lineterminator="\n")
    table.writerows([("path", "caption"), *((f"v{number}.mp4", text) for number, text in enumerate(written))])
    assert [name for name, _ in rows(place.getvalue())] == [f"v{number}.mp4" for number in range(len(written))]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ('path,caption\nv0.mp4,"she said\nv1.mp4,b\nv2.mp4,c\n', "line 2: a quotation mark opens a cell that does not"),
        ('path\tcaption\nv0.mp4\t"she\nv1.mp4\tsaid"\nv2.mp4\tc\n', "line 2: .* cell of 2 lines, 2 of which look like"),
        ('path\n"v0.mp4\nv1.mp4"\n', "line 2: .* 2 of which look like rows"),
    ],
)
def test_a_quotation_mark_that_swallows_rows_stops_the_command(content: str, told: str) -> None:
    with pytest.raises(UserError, match=told):
        rows(content)


@pytest.mark.parametrize(
    ("line", "told"),
    [('{"path": "a.mp4", "score": NaN}', "NaN"), ('{"path": "a.mp4", "path": "b.mp4"}', "'path' is there twice")],
)
def test_what_json_lines_would_lose_stops_the_command(line: str, told: str) -> None:
    with pytest.raises(UserError, match=told):
        rows(line + "\n", "list.jsonl")


@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        ("/a/what?.csv", ".csv"),
        ("/a/b.csv?c", ".csv?c"),
        ("b/c.TXT", ".txt"),
        ("s3://b/a.csv?scheme=http", ".csv"),
        ("s3://b/a?endpoint_override=h.csv", ""),
        ("file:///a/b%3F.csv", ".csv"),
    ],
)
def test_a_question_mark_starts_the_options_of_a_uri_only(name: str, suffix: str) -> None:
    assert kinds.suffix(name) == suffix


def test_a_list_whose_name_holds_a_question_mark_is_read_as_a_list(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"x")
    (tmp_path / "what?.csv").write_text("path,caption\na.mp4,x\n")
    assert [one.uri for one in list_sources([str(tmp_path / "what?.csv")])] == [str(tmp_path / "a.mp4")]


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_every_row_without_a_usable_name_is_an_input_of_its_own(tmp_path: Path, kind: str) -> None:
    cells = ["", "a.mp4", "", " ", "x" * 5000 + "1", "x" * 5000 + "2", ""]
    (tmp_path / "a.mp4").write_bytes(b"x")
    place = tmp_path / f"l.{kind}"
    if kind == "parquet":
        pq.write_table(pa.table({"path": [cell or None for cell in cells], "n": list(range(len(cells)))}), place)
    elif kind == "csv":
        place.write_text("path,n\n" + "".join(f"{cell},{n}\n" for n, cell in enumerate(cells)))
    else:
        place.write_text("".join(json.dumps({"path": cell, "n": n}) + "\n" for n, cell in enumerate(cells)))
    listing = list_sources([str(place)])
    found = list(listing)
    assert [one.uri for one in found if isinstance(one, Refused)] == [f"{place}, row {n}" for n in (1, 3, 4, 5, 6, 7)]
    assert len(found) == len(cells) and listing.notices() == []
    assert [json.loads(one.extra)["n"] for one in found] in ([*range(7)], [str(n) for n in range(7)])


def test_a_delimiter_inside_a_quoted_header_does_not_count() -> None:
    assert rows('"a;b;path";url\n1;v.mp4\n') == [("v.mp4", {"a;b;path": "1"})]


def test_a_text_of_names_is_no_table_whatever_is_in_them() -> None:
    content = "video, path.mp4\nurl;x/y.mp4\n# path;caption\n"
    assert rows(content, "list.txt") == [("video, path.mp4", {}), ("url;x/y.mp4", {})]


def test_old_line_ends_lose_no_name() -> None:
    assert rows("a.mp4\rb.mp4\rc.mp4", "list.txt") == [(name, {}) for name in ("a.mp4", "b.mp4", "c.mp4")]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.sampled_from(",;\t|"),
    st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20), min_size=1, max_size=5),
    st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20), min_size=1, max_size=4),
)
def test_what_a_csv_writer_writes_is_read_back(delimiter: str, captions: list[str], header: list[str]) -> None:
    """Whatever the cells and the other columns hold, and whatever they are called."""
    header = [f"c{at} {name}" for at, name in enumerate(header)]
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=delimiter, quoting=csv.QUOTE_ALL)
    writer.writerow([*header, "path"])
    for at, caption in enumerate(captions):
        writer.writerow([caption] * len(header) + [f"{at}.mp4"])
    names = [name.strip() for name in header]
    expected = [(f"{at}.mp4", {name: caption for name in names if caption}) for at, caption in enumerate(captions)]
    assert rows(text.getvalue()) == expected


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.text(max_size=8).filter(lambda key: key.strip().lower() not in {"uri", "path", "url"}), JSON))
def test_json_values_of_any_shape_are_kept(columns: dict[str, Any]) -> None:
    line = json.dumps({"path": "a.mp4", **columns})
    kept = {name: value for name, value in columns.items() if value not in (None, "")}
    assert rows(line, "list.jsonl") == [("a.mp4", kept)]


def test_json_lines_also_hold_plain_names() -> None:
    content = '"a.mp4"\n\n{"file_name": "b.mp4", "text": "two"}\n{"url": null}\n'
    assert rows(content, "list.ndjson") == [("a.mp4", {}), ("b.mp4", {"text": "two"}), ("", {})]


def test_parquet_columns_keep_their_types(tmp_path: Path) -> None:
    table = pa.table(
        {
            "n": [1, None],
            "x": [0.5, float("nan")],
            "yes": [True, False],
            "tags": [["a", "b"], []],
            "video": pa.array(["a.mp4", None]).dictionary_encode(),
            "when": pa.array([0, None], pa.timestamp("us", tz="UTC")),
            "box": [{"w": 1}, {"w": 2}],
        }
    )
    sink = io.BytesIO()
    pq.write_table(table, sink)
    first = {"n": 1, "x": 0.5, "yes": True, "tags": ["a", "b"], "when": "1970-01-01T00:00:00+00:00", "box": {"w": 1}}
    second = {"yes": False, "tags": [], "box": {"w": 2}}
    assert rows(sink.getvalue(), "list.parquet") == [("a.mp4", first), ("", second)]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("l.csv", "id;pfad;text\n1;a.mp4;x\n", r"no column of names: it has id, pfad, text; .* uri or path or url"),
        (
            "l.csv",
            "a.mp4;a dog\nb.mp4;a cat\n",
            "no column of names: it has a.mp4, a dog; name the columns in the first",
        ),
        ("l.csv", "path,caption\na.mp4,a dog, running\n", "line 2 has 3 cells, the header 2; put .* in quotes"),
        ("l.csv", "path;caption\na.mp4;caf\udce9\n".encode(errors="surrogateescape"), "line 2: .* is not UTF-8"),
        ("l.csv", "path\n".encode("utf-32"), "is UTF-32; save it as UTF-8"),
        ("l.csv", "path\na.mp4\n".encode("utf-16")[:-1], "cannot be read as text: .* truncated data; save it as UTF-8"),
        ("l.csv", b"p\0a\0t\0h\0", "begins with zero bytes"),
        ("l.jsonl", '{"path": "a.mp4"}\n{"path": \n', "line 2 is not JSON"),
        ("l.jsonl", '{"label": 1, "id": 2}\n', "line 1 has no column of names: it has label, id"),
        ("l.jsonl", "[1]\n", "line 1 holds no object"),
        ("l.jsonl", '{"path": 3}\n', "'path' is no string"),
        ("l.jsonl", '{"path": "a.mp4", "x": "\\ud800"}\n', "column 'x' is not UTF-8"),
        ("l.jsonl", "[" * 100_000, "line 1 is not JSON"),
        ("l.jsonl", json.dumps({"path": "a.mp4", "x": "y" * (own_columns.MOST + 1)}), "longer than"),
    ],
)
def test_a_mistake_anywhere_in_a_list_stops_before_the_first_entry(
    tmp_path: Path, name: str, content: str | bytes, message: str
) -> None:
    (tmp_path / "a.mp4").write_bytes(b"x")
    (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(UserError, match=message) as caught:
        list_sources([str(tmp_path / name)])
    assert "\n" not in str(caught.value)


def test_a_binary_column_is_not_dropped_in_silence(tmp_path: Path) -> None:
    pq.write_table(pa.table({"path": ["a.mp4"], "video_bytes": [b"x"]}), tmp_path / "l.parquet")
    with pytest.raises(UserError, match="column 'video_bytes' holds bytes"):
        list_sources([str(tmp_path / "l.parquet")])


def test_entries_carry_their_columns_and_those_of_a_repeated_row_are_told(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"x")
    (tmp_path / "l.csv").write_text("path,caption\na.mp4,one\na.mp4,one\na.mp4,two\ngone.mp4,three\n../b.mp4,four\n")
    listing = list_sources([str(tmp_path / "l.csv")])
    found = list(listing)
    assert [json.loads(one.extra)["caption"] for one in found] == ["one", "three", "four"]
    assert isinstance(found[0], Source)
    assert len({found[0]}) == 1  # hashable: the ledger answers in sets
    assert listing.tally.repeated == 1
    assert "1 rows name a video again" in listing.notices()[0]


# --- the columns themselves ---

COLUMNS = st.dictionaries(st.text(max_size=5), JSON, max_size=4).map(own_columns.packed)


@settings(deadline=None)
@given(COLUMNS, COLUMNS)
def test_united_columns_lose_no_key_and_the_last_value_wins(old: str, new: str) -> None:
    both = json.loads(own_columns.united(old, new) or "{}")
    assert both == json.loads(old or "{}") | json.loads(new or "{}")
    assert own_columns.united(own_columns.united(old, new), new) == own_columns.united(old, new)


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"caption": "a", "text": "b"}, "a"),
        ({"TEXT": "b"}, "b"),
        ({"caption": " ", "text": "b"}, "b"),
        ({"caption": ["a"]}, None),
        ({"label": "a"}, None),
        ({}, None),
    ],
)
def test_which_column_is_the_caption(columns: dict[str, Any], said: str | None) -> None:
    assert own_columns.caption(own_columns.packed(columns)) == said
