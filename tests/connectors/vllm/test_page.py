"""The page reader agrees with prometheus_client, fast and strict ways agree, and junk has a line number."""

from __future__ import annotations

import math
import tracemalloc
from collections.abc import Callable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from prometheus_client import Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import choose_encoder
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import CollectorRegistry

from connectors.vllm.core.mapping import MetricMap
from connectors.vllm.core.page import MAX_SHAPE_BYTES, Page, PageReader, SampleKey
from connectors.vllm.core.snapshot import Translator
from contracts.errors import BadMessage, Reason

Samples = list[tuple[SampleKey, float]]


def ours(page: Page) -> Samples:
    return list(zip(page.shape.samples, page.values, strict=True))


def theirs(raw: bytes, wanted: frozenset[str] | set[str]) -> Samples:
    return [
        (SampleKey(s.name, tuple(sorted(s.labels.items()))), float(s.value))
        for family in text_string_to_metric_families(raw.decode())
        for s in family.samples
        if s.name in wanted
    ]


def same(a: Samples, b: Samples) -> bool:
    return repr(sorted(a, key=repr)) == repr(sorted(b, key=repr))


NAMES = ["m:running", "m:tokens_total", "m:lat_bucket", "m:lat_sum", "m:lat_count", "other", "x_created"]
WANTED = frozenset(NAMES[:5])
numbers = st.one_of(
    st.integers(0, 10**6).map(float),
    st.floats(allow_nan=True, allow_infinity=True),
)
label_text = st.text(
    st.characters(codec="utf-8", exclude_characters="\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"), max_size=6
)
labels = st.dictionaries(st.sampled_from(["engine", "le", "model_name", "a"]), label_text, max_size=3)


def escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def spelled(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return repr(value)


@st.composite
def sample_lines(draw: st.DrawFn) -> str:
    pairs = ",".join(f'{k}="{escaped(v)}"' for k, v in draw(labels).items())
    key = draw(st.sampled_from(NAMES)) + ("{" + pairs + draw(st.sampled_from(["", ","])) + "}" if pairs else "")
    timestamp = draw(st.sampled_from(["", "", "", " 1700000000000"]))
    return key + draw(st.sampled_from([" ", "  "])) + spelled(draw(numbers)) + timestamp


comments = st.sampled_from(
    ["# HELP m:running help \\n text", "# TYPE m:running gauge", "# TYPE other untyped", "# a remark", ""]
)
pages = st.lists(st.one_of(sample_lines(), sample_lines(), comments), min_size=1, max_size=12)


@given(pages, st.sampled_from(["\n", "\r\n"]))
@settings(max_examples=300, deadline=None)
def test_both_readers_agree_with_prometheus_client(lines: list[str], newline: str) -> None:
    raw = ("x 1" + newline + "".join(line + newline for line in lines)).encode()
    reader = PageReader(WANTED)
    expected = theirs(raw, WANTED)
    first = reader.read(raw)
    assert same(ours(first), expected)
    assert same(ours(reader.read(raw, hint=first.shape)), expected)


mutations = st.one_of(
    st.tuples(st.just("value"), st.integers(0, 1000), numbers),
    st.tuples(st.just("swap"), st.integers(0, 1000), st.integers(0, 1000)),
    st.tuples(st.just("drop"), st.integers(0, 1000), st.none()),
    st.tuples(st.just("insert"), st.integers(0, 1000), st.binary(min_size=1, max_size=3)),
    st.tuples(st.just("line"), st.integers(0, 1000), st.sampled_from([b"m:running 7", b"; other 5", b"other", b""])),
)


def mutated(raw: bytes, how: str, at: int, what: object) -> bytes:
    lines = raw.split(b"\n")[:-1]
    i = at % len(lines)
    if how == "value":
        lines[i] = lines[i].rpartition(b" ")[0] + b" " + spelled(what).encode()  # type: ignore[arg-type]  # by strategy
    elif how == "swap":
        j = int(what) % len(lines)  # type: ignore[call-overload]  # by strategy
        lines[i], lines[j] = lines[j], lines[i]
    elif how == "drop":
        del lines[i]
    elif how == "insert":
        cut = at % (len(lines[i]) + 1)
        lines[i] = lines[i][:cut] + bytes(what) + lines[i][cut:]  # type: ignore[call-overload]  # by strategy
    else:
        lines.insert(i, bytes(what))  # type: ignore[call-overload]  # by strategy
    return b"\n".join(lines) + b"\n"


def outcome(read: Callable[[], Page]) -> str:
    """What a reader says of a page, samples or error, as text that can be compared although it may hold NaN."""
    try:
        return repr(ours(read()))
    except BadMessage as error:
        return error.detail


@given(pages, mutations, mutations)
@example(["# a remark"], ("drop", 1, None), ("insert", 2, b"\x80"))
@settings(max_examples=400, deadline=None)
def test_the_fast_reader_answers_as_the_strict_one_whatever_changed(
    lines: list[str], one: tuple[str, int, object], two: tuple[str, int, object]
) -> None:
    raw = "".join(line + "\n" for line in ["x 1", *lines]).encode()
    reader = PageReader(WANTED)
    hint = reader.read(raw).shape
    changed = mutated(mutated(raw, *one), *two)
    assert outcome(lambda: reader.read(changed, hint=hint)) == outcome(lambda: reader.read_strict(changed))


def test_a_real_page_is_read_as_prometheus_client_reads_it(
    metric_map: MetricMap, page_032: bytes, page_tiering: bytes
) -> None:
    for raw in (page_032, page_tiering):
        reader = PageReader(metric_map.wanted, prefix=metric_map.prefix)
        page = reader.read(raw)
        assert len(page.values) > 150
        assert same(ours(page), theirs(raw, metric_map.wanted))
        assert page.shape.fast is not None


def test_only_the_numbers_are_read_when_only_they_change(metric_map: MetricMap, page_032: bytes) -> None:
    reader = PageReader(metric_map.wanted, prefix=metric_map.prefix)
    first = reader.read(page_032)
    busier = page_032.replace(b"prompt_tokens_total{engine=\"0\",model_name=\"tiny\"} 11879.0",
                              b"prompt_tokens_total{engine=\"0\",model_name=\"tiny\"} 1.2e+04")  # fmt: skip
    second = reader.read(busier, hint=first.shape)
    assert busier != page_032
    assert second.shape is first.shape
    assert 12000.0 in second.values
    assert 12000.0 not in first.values


def test_servers_whose_pages_look_alike_share_a_shape(metric_map: MetricMap, page_032: bytes) -> None:
    reader = PageReader(metric_map.wanted, prefix=metric_map.prefix)
    assert reader.read(page_032).shape is reader.read(page_032.replace(b" 26.0\n", b" 27.0\n")).shape


def test_shapes_that_nobody_keeps_are_let_go() -> None:
    reader, hint = PageReader({"m"}), None
    for scrape in range(50):
        hint = reader.read(f'm 1\nother{{adapter="a{scrape}"}} 1\n'.encode(), hint=hint).shape
        assert len(reader._shapes) == 1  # of which nothing else can be seen, but memory


def test_a_page_whose_shape_is_too_large_is_read_strictly() -> None:
    rows = 2 + MAX_SHAPE_BYTES // 100
    raw = b"m 7\n" + b"x 1\n" * rows
    reader = PageReader({"m"})
    page = reader.read(raw)
    assert page.shape.fast is None
    assert ours(reader.read(raw, hint=page.shape)) == [(SampleKey("m", ()), 7.0)]
    assert reader.read(raw[: 4 * (rows // 2)]).shape.fast is not None


def test_the_size_of_a_shape_is_not_underrated(metric_map: MetricMap) -> None:
    """Pages that are only just small enough, of wanted and of other samples, take no more than the limit."""
    for name, row_bytes in (("vllm:prompt_tokens_total", 970), ("x", 130)):
        raw = "".join(
            f'{name}{{engine="{i % 4}",le="{i:06}"}} 1\n' for i in range(MAX_SHAPE_BYTES // row_bytes)
        ).encode()
        reader, translator = PageReader(metric_map.wanted, prefix=""), Translator(metric_map)
        tracemalloc.start()
        shape = reader.read(raw).shape
        translator.translate(Page(shape, (1.0,) * len(shape.samples)))
        held, _peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert shape.fast is not None
        assert 0.5 * MAX_SHAPE_BYTES < held < MAX_SHAPE_BYTES


def test_a_family_without_a_type_line_is_read(metric_map: MetricMap, page_032: bytes) -> None:
    bare = b"".join(line for line in page_032.splitlines(keepends=True) if not line.startswith(b"#"))
    reader = PageReader(metric_map.wanted, prefix=metric_map.prefix)
    assert ours(reader.read(bare)) == ours(reader.read(page_032))


def test_a_family_that_appears_without_a_type_line_is_not_skipped(metric_map: MetricMap, page_032: bytes) -> None:
    reader = PageReader(metric_map.wanted, prefix=metric_map.prefix)
    hint = reader.read(page_032).shape
    grown = page_032 + b'vllm:corrupted_requests_total{engine="0",model_name="tiny"} 3.0\n'
    assert ours(reader.read(grown, hint=hint))[-1][1] == 3.0


def test_openmetrics_with_exemplars_and_timestamps_is_read() -> None:
    registry = CollectorRegistry()
    Gauge("running", "d", ["engine"], registry=registry).labels("0").set(3)
    Counter("tokens", "d", ["engine"], registry=registry).labels("0").inc(5, {"trace_id": "a b"})
    histogram = Histogram("lat", "d", ["engine"], registry=registry, buckets=(0.1, 1.0))
    histogram.labels("0").observe(0.5, {"trace_id": "abc"})
    openmetrics, _ = choose_encoder("application/openmetrics-text")
    raw = openmetrics(registry)
    assert b"# {" in raw
    wanted = {"running", "tokens_total", "lat_bucket", "lat_sum", "lat_count"}
    reader = PageReader(wanted)
    assert ours(reader.read(raw, openmetrics=True)) == ours(PageReader(wanted).read(generate_latest(registry)))
    stamped = raw.replace(b'running{engine="0"} 3.0', b'running{engine="0"} 3.0 1700000000.123')
    assert ours(reader.read(stamped, openmetrics=True))[0][1] == 3.0


@pytest.mark.parametrize("spelling", ["1", "1.0", "1e+00", "+1", " 1"])
def test_values_are_read_however_they_are_spelled(spelling: str) -> None:
    assert PageReader({"m"}).read(f"m {spelling}\n".encode()).values == (1.0,)


def test_escapes_in_labels_are_resolved() -> None:
    page = PageReader({"m"}).read(b'm{a="x\\\\n\\n\\"y\\q"} 1\n')
    assert page.shape.samples[0].labels == (("a", 'x\\n\n"y\\q'),)


BAD = {
    "empty": (b"", "line 1: the page is empty"),
    "cut in a number": (b"m 1\nm2 118", "line 2: the page ends inside a line"),
    "cut in a label": (b'm 1\nm{engine="0', "line 2: the page ends inside a line"),
    "binary": (b"m 1\n\x80\x81\x00\n", "line 2: byte 0x80 is not UTF-8"),
    "html": (b"<!doctype html>\n<p>hello</p>\n", "line 1: not a sample: '<!doctype html>'"),
    "no value": (b'm{a="b"}\n', "line 1: not a sample"),
    "value": (b"x 1\nm one\n", "line 2: 'one' is not a number"),
    "underscore": (b"m 1_0\n", "line 1: '1_0' is not a number"),
    "quotes": (b'm{a="b} 1\n', "line 1: not a sample"),
    "label twice": (b'm{a="b",a="c"} 1\n', "line 1: a label stands twice"),
    "two types": (b"# TYPE m gauge\n# TYPE m counter\nm 1\n", "line 2: 'm' is declared gauge and counter"),
    "after eof": (b"m 1\n# EOF\nm 2\n", "line 3: text after # EOF"),
    "third word": (b"m 1 2 3\n", "line 1: not a sample"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_malformed_page_is_refused_with_the_line(name: str) -> None:
    raw, message = BAD[name]
    with pytest.raises(BadMessage) as caught:
        PageReader({"m"}).read(raw)
    assert caught.value.reason is Reason.MALFORMED_PAGE
    assert message in caught.value.detail


def test_an_openmetrics_page_without_its_end_is_refused() -> None:
    whole = PageReader({"m"})
    hint = whole.read(b"m 1\n").shape
    with pytest.raises(BadMessage, match="no # EOF: the page was cut off"):
        whole.read(b"m 1\n", hint=hint, openmetrics=True)


def test_a_message_never_repeats_more_than_a_little_of_the_page() -> None:
    with pytest.raises(BadMessage) as caught:
        PageReader({"m"}).read(b"<" * 100_000 + b"\n")
    assert len(caught.value.detail) < 200


@given(st.binary(max_size=300))
@settings(deadline=None)
def test_any_bytes_are_a_page_or_a_malformed_page(raw: bytes) -> None:
    assert outcome(lambda: PageReader({"m"}).read(raw)).startswith(("[", "line "))
