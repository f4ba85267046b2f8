"""Reads a metrics page (Prometheus text 0.0.4 or OpenMetrics): bytes in, the samples of the wanted families out.

Two readers that agree on every page. The strict one judges each line by the grammar and is the reference. The fast one
uses that a server's page hardly changes from one scrape to the next: when every comment line is byte-equal to the last
strictly read page of that shape, and every sample line has the same text before its value, only the numbers are left
to read. Nothing is searched for by name, so a family without a TYPE line is read like any other. Every line must have
the form of a sample or a comment; the values of families that nobody asked for are not looked at.
Format: https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Hashable, Sequence
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import Any, NamedTuple
from weakref import WeakValueDictionary

from contracts.errors import BadMessage, Reason

_WS = rb"[ \t\r\f\v]"
_LABEL_NAME = rb"[a-zA-Z_][a-zA-Z0-9_]*+"
_LABEL = _LABEL_NAME + _WS + rb"*+=" + _WS + rb'*+"(?>[^"\\]++|\\.)*+"' + _WS + rb"*+"
_LABELS = rb"\{" + _WS + rb"*+(?P<labels>(?:" + _LABEL + rb"(?:,|(?=\}))" + _WS + rb"*+)*+)\}"
_LINE = re.compile(
    _WS + rb"*+(?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*+)"
    + rb"(?:" + _WS + rb"*+" + _LABELS + _WS + rb"*+|" + _WS + rb"++)"
    + rb"(?P<value>[^ \t\r\f\v]++)"
    + rb"(?:" + _WS + rb"++(?P<timestamp>[-+.0-9eE]++))?+"
    + rb"(?:" + _WS + rb"++#" + _WS + rb".*+)?+"  # an OpenMetrics exemplar
    + _WS + rb"*+"
)  # fmt: skip
_ONE_LABEL = re.compile(rb"(" + _LABEL_NAME + rb")" + _WS + rb"*+=" + _WS + rb'*+"((?>[^"\\]++|\\.)*+)"')
_ESCAPE = re.compile(r'\\([\\n"])')
_TYPE = re.compile(rb"#[ \t]+TYPE[ \t]+([^ \t]+)[ \t]+([a-z]+)" + _WS + rb"*")
_EOF = re.compile(rb"#[ \t]+EOF" + _WS + rb"*")

_SEPARATOR = b";"

MAX_SHAPE_BYTES = 8 * 1024 * 1024
"""A page whose shape would take more is read strictly every time. vLLM's own take about 270 KB an engine."""
_LINE_BYTES, _SAMPLE_BYTES = 96, 800
"""What a line, and a wanted sample with its place in the plan, take beside their text: measured, rounded up."""
_Pick = Callable[[Sequence[Any]], tuple[Any, ...]]


class SampleKey(NamedTuple):
    """What stands before a value: the sample's name, and its labels sorted by name, escapes resolved."""

    name: str
    labels: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        return self.name + ("{" + ",".join(f'{k}="{v}"' for k, v in self.labels) + "}" if self.labels else "")


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Shape:
    """All of a page but its numbers; compared by identity, and shared by the servers whose pages look the same.

    `samples` are the wanted ones in page order, `types` the declared type by family, `speaks` whether any name has the
    connector's prefix. The rest serves the fast reader and is None where the page cannot be read that way.
    """

    samples: tuple[SampleKey, ...]
    types: dict[str, str]
    speaks: bool
    eof: bool
    fast: _Fast | None


@dataclass(frozen=True, slots=True, eq=False)
class _Fast:
    line_count: int
    pick_literal: _Pick
    literal: tuple[bytes, ...]
    pick_samples: _Pick
    keys: list[bytes]
    pick_wanted: _Pick

    def values(self, lines: list[bytes]) -> tuple[float, ...] | None:
        """The wanted values when `lines` have this shape, None when they have not or a value is not a number."""
        if len(lines) != self.line_count or self.pick_literal(lines) != self.literal:
            return None
        # A separator between lines keeps a token of one line from passing for a token of the next.
        tokens = b" ; ".join(self.pick_samples(lines)).split()
        between = len(self.keys) - 1
        if len(tokens) != 2 * len(self.keys) + between or tokens[::3] != self.keys:
            return None
        if tokens[2::3].count(_SEPARATOR) != between or tokens.count(_SEPARATOR) != between:
            return None
        numbers = tokens[1::3]
        if not b"".join(numbers).isascii():  # the strict reader says whether it is text at all
            return None
        picked = self.pick_wanted(numbers)
        try:
            # Buckets above the slowest request repeat one number: each text is converted once.
            number_of = {text: to_number(text) for text in set(picked)}
        except ValueError:
            return None
        return tuple(map(number_of.__getitem__, picked))


@dataclass(frozen=True, slots=True)
class Page:
    """A page that could be read: `values[i]` belongs to `shape.samples[i]`; NaN and infinities are still in it."""

    shape: Shape
    values: tuple[float, ...]


def malformed(detail: str) -> BadMessage:
    """The error of a page that no reader can take."""
    return BadMessage(Reason.MALFORMED_PAGE, detail)


class PageReader:
    """Reads the pages of many servers, and gives one shape to all whose pages look the same.

    A shape lives for as long as somebody keeps it as a hint, and no longer: a page that changes its labels with every
    scrape leaves nothing behind. So a fleet takes at most MAX_SHAPE_BYTES a server, and far less where pages are alike.
    """

    def __init__(self, wanted: Collection[str], *, prefix: str = "") -> None:
        self._wanted = frozenset(name.encode() for name in wanted)
        self._prefix = prefix.encode()
        self._shapes: WeakValueDictionary[tuple[Hashable, ...], Shape] = WeakValueDictionary()

    def read(self, raw: bytes, *, hint: Shape | None = None, openmetrics: bool = False) -> Page:
        """Read a page; `hint` is the shape of the server's last page. Raises BadMessage naming the line."""
        lines = raw.split(b"\n")
        if hint is not None and hint.fast is not None and hint.eof >= openmetrics:
            values = hint.fast.values(lines)
            if values is not None:
                return Page(hint, values)
        return self._read_strict(raw, lines, openmetrics)

    def read_strict(self, raw: bytes, *, openmetrics: bool = False) -> Page:
        """Read a page line by line: the reference that the fast reader agrees with."""
        return self._read_strict(raw, raw.split(b"\n"), openmetrics)

    def _read_strict(self, raw: bytes, lines: list[bytes], openmetrics: bool) -> Page:
        _check_text(raw)
        samples: list[SampleKey] = []
        values: list[float] = []
        types: dict[str, str] = {}
        literal: list[int] = []
        plain: list[int] = []
        keys: list[bytes] = []
        wanted_at: list[int] = []
        speaks = eof = False
        cacheable = True
        for at, line in enumerate(lines):
            text = line.strip()
            if eof and text:
                raise malformed(f"line {at + 1}: text after # EOF")
            if not text or text.startswith(b"#"):
                literal.append(at)
                eof = eof or _EOF.fullmatch(text) is not None
                if (declared := _TYPE.fullmatch(text)) is not None:
                    _declare(types, declared, at + 1)
                    speaks = speaks or declared[1].startswith(self._prefix)
                continue
            match = _LINE.fullmatch(line)
            if match is None:
                raise malformed(f"line {at + 1}: not a sample: {_shown(line)}")
            name = match["name"]
            speaks = speaks or name.startswith(self._prefix)
            tokens = line.split()
            is_plain = len(tokens) == 2
            if name in self._wanted:
                samples.append(SampleKey(name.decode(), _labels(match["labels"], at + 1)))
                values.append(_value(match["value"], line, at + 1))
                wanted_at.append(len(plain))
                cacheable = cacheable and is_plain
            if is_plain:
                plain.append(at)
                keys.append(tokens[0])
            else:
                literal.append(at)
        if openmetrics and not eof:
            raise malformed(f"line {len(lines)}: no # EOF: the page was cut off")
        shape = Shape(tuple(samples), types, speaks, eof, None)
        size_bytes = len(raw) + _LINE_BYTES * len(lines) + _SAMPLE_BYTES * len(samples)
        if cacheable and keys and size_bytes <= MAX_SHAPE_BYTES:
            pick_literal = _picker(literal)
            fixed = pick_literal(lines)
            fast = _Fast(len(lines), pick_literal, fixed, _picker(plain), keys, _picker(wanted_at))
            shape = self._shapes.setdefault((fixed, tuple(keys), tuple(plain)), replace(shape, fast=fast))
        return Page(shape, tuple(values))


def _picker(positions: Sequence[int]) -> _Pick:
    """A function that takes the items at `positions` out of a sequence, as a tuple also for one and none."""
    if len(positions) > 1:
        return itemgetter(*positions)
    if positions:
        only = positions[0]
        return lambda items: (items[only],)
    return lambda _items: ()


def _check_text(raw: bytes) -> None:
    """What the grammar cannot say line by line: an empty, cut or binary page."""
    if not raw.strip():
        raise malformed("line 1: the page is empty")
    try:
        raw.decode()
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise malformed(f"line {line}: byte {raw[error.start]:#04x} is not UTF-8 text") from None
    if not raw.endswith(b"\n"):
        line, rest = raw.count(b"\n") + 1, raw.rpartition(b"\n")[2]
        raise malformed(f"line {line}: the page ends inside a line, it was cut off: {_shown(rest)}")


def _declare(types: dict[str, str], match: re.Match[bytes], line: int) -> None:
    name, kind = match[1].decode(), match[2].decode()
    if types.setdefault(name, kind) != kind:
        raise malformed(f"line {line}: {_shown(match[1])} is declared {types[name]} and {kind}")


def to_number(text: bytes) -> float:
    """A sample's value: what Go's ParseFloat and Python agree on, so not 1_0. Raises ValueError."""
    if b"_" in text:
        raise ValueError(text)
    return float(text)


def _value(text: bytes, line: bytes, number: int) -> float:
    try:
        return to_number(text)
    except ValueError:
        raise malformed(f"line {number}: {_shown(text)} is not a number: {_shown(line)}") from None


def _labels(text: bytes | None, line: int) -> tuple[tuple[str, str], ...]:
    if not text:
        return ()
    pairs = [(m[1].decode(), _unescape(m[2].decode())) for m in _ONE_LABEL.finditer(text)]
    if len({name for name, _ in pairs}) != len(pairs):
        raise malformed(f"line {line}: a label stands twice: {_shown(text)}")
    return tuple(sorted(pairs))


def _unescape(value: str) -> str:
    if "\\" not in value:
        return value
    return _ESCAPE.sub(lambda m: "\n" if m[1] == "n" else m[1], value)


def _shown(text: bytes) -> str:
    """Untrusted text for a message: short, printable."""
    shown = ascii(text[:80].decode("utf-8", "replace"))
    return shown + ("…" if len(text) > 80 else "")
