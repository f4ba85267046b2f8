"""The `/metrics` page of one replica, family by family as vLLM 0.32 writes it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import inf

from prometheus_client.utils import floatToGoString

from connectors.twin.engine import Engine
from connectors.twin.families import FAMILIES, TIER_FAMILIES, Family, Kind, cache_config
from connectors.twin.fleet import Replica
from connectors.twin.meters import Bins
from connectors.twin.profiles import BLOCK_TOKENS, GPU_MEMORY_UTILIZATION

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_HTTP_COARSE_S = (0.1, 0.5, 1.0)
_LISTING_S = 0.002
_BYTES_PER_PROMPT_TOKEN, _BYTES_AROUND_PROMPT = 4, 220
"""English text is about four bytes a token; the rest is JSON around the prompt. Assumed: nothing is really sent."""


def render(replica: Replica, now_ms: float) -> bytes:
    """The page at event time `now_ms`, of a replica whose engine serves.

    `process_start_time_seconds` and `_created` are event time, as all the twin's times are.
    """
    engine = replica.engine
    if engine is None:
        raise ValueError(f"{replica.replica_id} serves no page while it is {replica.phase}")
    out: list[str] = []
    _process(out, replica, engine, now_ms)
    created_s = replica.ready_at_ms / 1000.0
    model = f'model_name="{_escape(replica.workload.model)}"'
    for number, family in enumerate(FAMILIES if engine.tiers is None else TIER_FAMILIES + FAMILIES):
        # Families are created one after the other, some ten microseconds apart.
        _family(out, family, engine, model, created_s + number * 1.3e-5)
    labels = cache_config(engine, BLOCK_TOKENS, GPU_MEMORY_UTILIZATION)
    _head(out, "vllm:cache_config_info", Kind.GAUGE, "Settings of the KV cache.")
    out.append(f"vllm:cache_config_info{_braces(labels)} 1.0\n")
    _http(out, replica, engine, created_s)
    return "".join(out).encode()


def _family(out: list[str], family: Family, engine: Engine, model: str, created_s: float) -> None:
    value = family.read(engine)
    prefix = 'engine="0",' if family.engine_label else ""
    if isinstance(value, Bins):
        _head(out, family.name, family.kind, family.doc)
        _bins(out, family.name, value, prefix, f",{model}")
        inner: list[str] = [f"{{{prefix}{model}}}"]
    else:
        name = f"{family.name}_total" if family.kind is Kind.COUNTER else family.name
        _head(out, name, family.kind, family.doc)
        if isinstance(value, Mapping):
            # Labels stand in alphabetical order on the page: some come before `model_name`, some after it.
            pairs = {key: (f'{family.label}="{key}"', model) for key in value}
            inner = [f"{{{prefix}{','.join(sorted(pair))}}}" for pair in pairs.values()]
            numbers: Iterable[float] = value.values()
        else:
            inner, numbers = [f"{{{prefix}{model}}}"], [value]
        for braces, number in zip(inner, numbers, strict=True):
            out.append(f"{name}{braces} {_number(number)}\n")
        if family.kind is Kind.GAUGE:
            return
    _created(out, family.name, family.doc, inner, created_s)


def _bins(out: list[str], name: str, bins: Bins, before: str, after: str) -> None:
    """Buckets, count and sum; `before` and `after` are the labels around `le`."""
    histogram = bins.histogram()
    bucket = f'{name}_bucket{{{before}le="'
    for edge, count in zip((*histogram.le, inf), histogram.counts, strict=True):
        out.append(f'{bucket}{_number(edge)}"{after}}} {_number(count)}\n')
    inner = (before + after.removeprefix(",")).removesuffix(",")
    braces = f"{{{inner}}}" if inner else ""
    out.append(f"{name}_count{braces} {_number(histogram.count)}\n{name}_sum{braces} {_number(histogram.sum)}\n")


def _process(out: list[str], replica: Replica, engine: Engine, now_ms: float) -> None:
    """What any Python server says of itself. Plausible figures that only grow where they must, not measured ones."""
    uptime_s = max(0.0, now_ms - replica.process_started_ms) / 1000.0
    ended = engine.meters.e2e_s.count
    collections = (1500 + ended // 7, 140 + ended // 80, 10 + ended // 900)
    by_generation = (
        ("python_gc_objects_collected", "Objects freed by the collector.", [n * 9 for n in collections]),
        ("python_gc_objects_uncollectable", "Objects the collector could not free.", [0, 0, 0]),
        ("python_gc_collections", "Runs of the collector.", list(collections)),
    )
    for name, doc, numbers in by_generation:
        _head(out, f"{name}_total", Kind.COUNTER, doc)
        out.extend(f'{name}_total{{generation="{i}"}} {_number(n)}\n' for i, n in enumerate(numbers))
    _head(out, "python_info", Kind.GAUGE, "The interpreter.")
    info = {"implementation": "CPython", "major": "3", "minor": "12", "patchlevel": "11", "version": "3.12.11"}
    out.append(f"python_info{_braces(info)} 1.0\n")
    for name, kind, doc, number in (
        ("process_virtual_memory_bytes", Kind.GAUGE, "Virtual memory.", 28_311_552_000.0),
        ("process_resident_memory_bytes", Kind.GAUGE, "Resident memory.", 1_842_257_920.0),
        ("process_start_time_seconds", Kind.GAUGE, "Start of the process.", replica.process_started_ms / 1000.0),
        ("process_cpu_seconds_total", Kind.COUNTER, "Processor time.", round(12.0 + 0.11 * uptime_s, 2)),
        ("process_open_fds", Kind.GAUGE, "Open files.", 61.0 + engine.outstanding),
        ("process_max_fds", Kind.GAUGE, "Most files allowed.", 1_048_576.0),
    ):
        _head(out, name, kind, doc)
        out.append(f"{name} {_number(number)}\n")


def _http(out: list[str], replica: Replica, engine: Engine, created_s: float) -> None:
    """The front end's own families, by route; a label set appears when the first request has ended."""
    meters, route = engine.meters, replica.workload.route
    served, failed, listed = meters.http_s.count, meters.finished["error"], replica.models_listed
    ends = {
        ("/v1/models", "GET", "2xx"): listed,
        (route, "POST", "2xx"): served,
        (route, "POST", "4xx"): replica.refused,
        (route, "POST", "5xx"): failed,
    }
    keys = [
        _braces({"handler": handler, "method": method, "status": status})
        for (handler, method, status), n in ends.items()
        if n
    ]
    doc = "Requests by method, status and handler."
    _head(out, "http_requests_total", Kind.COUNTER, doc)
    seen = [n for n in ends.values() if n]
    out.extend(f"http_requests_total{key} {_number(n)}\n" for key, n in zip(keys, seen, strict=True))
    _created(out, "http_requests", doc, keys, created_s)
    durations = _durations(replica, meters.http_s)
    prompt_bytes = meters.request_prompt_tokens.total * _BYTES_PER_PROMPT_TOKEN + _BYTES_AROUND_PROMPT * served
    handlers = [_braces({"handler": handler}) for handler, _, _ in durations]
    for direction, total in (("request", prompt_bytes), ("response", 0.0)):
        name, doc = f"http_{direction}_size_bytes", f"Declared length of each {direction}."
        out.append(f"# HELP {name} {doc}\n# TYPE {name} summary\n")
        for (handler, _, bins), key in zip(durations, handlers, strict=True):
            size = total if handler == route else 444.0 * listed * (direction == "response")
            out.append(f"{name}_count{key} {_number(bins.count)}\n{name}_sum{key} {_number(size)}\n")
        _created(out, name, doc, handlers, created_s)
    name, doc = "http_request_duration_highr_seconds", "Duration in fine buckets."
    _head(out, name, Kind.HISTOGRAM, doc)
    fine = Bins(meters.http_s.edges)
    fine.counts, fine.total = list(meters.http_s.counts), meters.http_s.total
    if listed:
        fine.add(_LISTING_S, listed)
    _bins(out, name, fine, "", "")
    _created(out, name, doc, [""], created_s)
    name, doc = "http_request_duration_seconds", "Duration by handler."
    _head(out, name, Kind.HISTOGRAM, doc)
    for handler, method, bins in durations:
        _bins(out, name, bins, f'handler="{handler}",', f',method="{method}"')
    routes = [_braces({"handler": handler, "method": method}) for handler, method, _ in durations]
    _created(out, name, doc, routes, created_s)


def _durations(replica: Replica, fine: Bins) -> list[tuple[str, str, Bins]]:
    """Durations by handler in the coarse buckets, whose edges are among the fine ones."""
    found = []
    if replica.models_listed:
        listing = Bins(_HTTP_COARSE_S)
        listing.add(_LISTING_S, replica.models_listed)
        found.append(("/v1/models", "GET", listing))
    if fine.count:
        coarse = Bins(_HTTP_COARSE_S)
        for edge, count in zip((*fine.edges, float("inf")), fine.counts, strict=True):
            coarse.add(edge, count)
        coarse.total = fine.total
        found.append((replica.workload.route, "POST", coarse))
    return found


def _head(out: list[str], name: str, kind: Kind, doc: str) -> None:
    out.append(f"# HELP {name} {doc}\n# TYPE {name} {kind}\n")


def _created(out: list[str], name: str, doc: str, braces: Iterable[str], created_s: float) -> None:
    """When each series began: prometheus_client writes it as a gauge of its own."""
    _head(out, f"{name}_created", Kind.GAUGE, doc)
    out.extend(f"{name}_created{inner} {_number(created_s)}\n" for inner in braces)


def _braces(labels: Mapping[str, str]) -> str:
    return "{" + ",".join(f'{name}="{_escape(value)}"' for name, value in labels.items()) + "}"


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def _number(value: float) -> str:
    """As prometheus_client spells a float; `str` because that function carries no types."""
    return str(floatToGoString(value))  # type: ignore[no-untyped-call]  # upstream is untyped
