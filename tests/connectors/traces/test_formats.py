"""Azure, Mooncake and BurstGPT: what each line becomes, what is refused, and how a format is recognised."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from connectors.traces import azure, burstgpt, mooncake, reading
from contracts.errors import ConfigError
from tests.connectors.traces import tables

AZURE = ["TIMESTAMP,ContextTokens,GeneratedTokens"]
BURST = ["Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type"]


def test_azure_seconds_begin_at_the_first_second_and_know_the_time_of_day(tmp_path: Path) -> None:
    lines = [*AZURE, "2023-11-16 18:17:03.9799600,4808,10", "2023-11-16 18:17:05.2500000,7,8"]
    found = azure.read(tables.write(tmp_path / "a.csv.gz", lines))
    assert found.arrival_s.tolist() == pytest.approx([0.97996, 2.25], abs=1e-5)
    assert found.midnight_s == 18 * 3600 + 17 * 60 + 3
    assert found.prompt_tokens is not None
    assert found.prompt_tokens.tolist() == [4808, 7]
    assert found.output_tokens is not None
    assert found.output_tokens.tolist() == [10, 8]


def test_azure_lines_out_of_order_are_sorted_with_their_tokens(tmp_path: Path) -> None:
    lines = [*AZURE, "2023-11-16 00:00:05,5,1", "2023-11-16 00:00:01+00:00,1,2"]
    found = azure.read(tables.write(tmp_path / "a.csv", lines))
    assert found.arrival_s.tolist() == [0.0, 4.0]
    assert found.prompt_tokens is not None
    assert found.prompt_tokens.tolist() == [1, 5]


def test_mooncake_gives_lengths_and_blocks(tmp_path: Path) -> None:
    lines = [
        json.dumps({"timestamp": 1500, "input_length": 700, "output_length": 5, "hash_ids": [0, 1]}),
        json.dumps({"timestamp": 0, "input_length": 10, "output_length": 6, "hash_ids": [7]}),
    ]
    found = mooncake.read(tables.write(tmp_path / "m.jsonl.gz", lines))
    assert found.arrival_s.tolist() == [0.0, 1.5]
    assert found.blocks == ((7,), (0, 1))


def test_a_trace_of_a_live_engine_tells_how_long_its_blocks_are(tmp_path: Path) -> None:
    lines = [
        json.dumps(
            {"timestamp": at, "input_length": 130, "output_length": 0, "hash_ids": [1, 2, 3], "block_tokens": 64}
        )
        for at in (0, 1)
    ]
    assert mooncake.read(tables.write(tmp_path / "own.jsonl", lines)).block_tokens == 64
    mixed = [*lines, json.dumps({"timestamp": 2, "input_length": 9, "output_length": 0, "hash_ids": [1]})]
    with pytest.raises(ConfigError, match="block_tokens is 512, and 64 above"):
        mooncake.read(tables.write(tmp_path / "mixed.jsonl", mixed))
    for wrong in (0, -1, "64", True, 1.5):
        broken = json.dumps({"timestamp": 0, "input_length": 9, "output_length": 0, "block_tokens": wrong})
        with pytest.raises(ConfigError, match="block_tokens is"):
            mooncake.read(tables.write(tmp_path / "broken.jsonl", [broken]))


def test_burstgpt_reads_all_models_or_one_and_counts_requests_that_failed(tmp_path: Path) -> None:
    lines = [*BURST, "5,ChatGPT,472,18,490,Conversation log", "45,GPT-4,10,0,10,API log"]
    path = tables.write(tmp_path / "b.csv", lines)
    assert burstgpt.read(path).arrival_s.tolist() == [0.0, 40.0]
    assert burstgpt.read(path, "GPT-4").arrival_s.tolist() == [40.0], "models stay side by side"
    assert burstgpt.read(path, "GPT-4").midnight_s == 5
    with pytest.raises(ConfigError, match="Its models: ChatGPT, GPT-4"):
        burstgpt.read(path, "Llama")


def test_requests_become_counts_of_seconds_without_the_broken_last_one(tmp_path: Path) -> None:
    lines = [*BURST, *(f"{at},m,1,1,2,log" for at in (0.2, 0.9, 2.0, 3.1))]
    load = burstgpt.read(tables.write(tmp_path / "b.csv", lines)).load("chat")
    assert load.per_second.tolist() == [2, 0, 1]
    assert load.workload == "chat"


NOON_S = 1_700_006_400 + 43_200
"""Noon of 15 November 2023, seconds since 1970."""


@pytest.mark.parametrize("format_", ["burstgpt", "mooncake", "azure"])
def test_stamps_that_count_from_1970_begin_at_the_first_request_and_know_the_time_of_day(
    tmp_path: Path, format_: str
) -> None:
    moments = [NOON_S + 0.5, NOON_S + 2.25, NOON_S + 3.0]
    lines = {
        "burstgpt": [*BURST, *(f"{at_s},m,1,1,2,log" for at_s in moments)],
        "mooncake": [json.dumps({"timestamp": at_s * 1000, "input_length": 9, "output_length": 1}) for at_s in moments],
        "azure": [*AZURE, *(f"{datetime.fromtimestamp(at_s, UTC):%Y-%m-%d %H:%M:%S.%f},1,1" for at_s in moments)],
    }[format_]
    load, found = reading.requests(tables.write(tmp_path / "t.csv", lines), None, 0)
    assert found.arrival_s.tolist() == [0.5, 2.25], "the last second may be cut short"
    assert found.midnight_s == load.begin_s == 43_200
    assert load.per_second.tolist() == [1, 0, 1]


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("b.csv", [*BURST, "0,m,1,1,2,log", f"{NOON_S},m,1,1,2,log"]),
        ("a.csv", [*AZURE, "1970-01-01 00:00:00,1,1", "2023-11-16 00:00:00,1,1"]),
        ("m.jsonl", [f'{{"timestamp": {at}, "input_length": 1, "output_length": 1}}' for at in (0, NOON_S * 1000)]),
    ],
)
def test_a_stray_stamp_that_would_make_a_trace_of_years_is_refused(tmp_path: Path, name: str, lines: list[str]) -> None:
    with pytest.raises(ConfigError, match="days after the first") as error:
        reading.load(tables.write(tmp_path / name, lines), None, 0)
    assert name in str(error.value)


@pytest.mark.parametrize(
    ("name", "lines", "where", "what"),
    [
        ("a.csv", [*AZURE, "yesterday,1,1"], "a.csv:2", "TIMESTAMP is 'yesterday'"),
        ("a.csv", [*AZURE, "2023-11-16 00:00:00,x,1"], "a.csv:2", "ContextTokens is 'x'"),
        ("a.csv", [*AZURE, "2023-11-16 00:00:00,1,-1"], "a.csv:2", "GeneratedTokens is '-1'"),
        ("a.csv", [*AZURE, "2023-11-16 00:00:00,1,inf"], "a.csv:2", "GeneratedTokens is 'inf'"),
        ("a.csv", [*AZURE, "", "2023-11-16 00:00:00,1"], "a.csv:3", "2 fields, 3 columns"),
        ("a.csv", AZURE, "a.csv", "no requests"),
        ("b.csv", [*BURST, "x,m,1,1,2,log"], "b.csv:2", "Timestamp is 'x'"),
        ("b.csv", BURST, "b.csv", "no requests"),
        ("c.csv", ["time,size", "1,2"], "c.csv:1", "of no format"),
        ("d.csv", [], "d.csv:1", "the file is empty"),
        ("a.csv", ["TIMESTAMP,ContextTokens", "2023-11-16 00:00:00,1"], "a.csv:1", "no column GeneratedTokens"),
        ("b.csv", [BURST[0].replace("Timestamp,", ""), "m,1,1,2,log"], "b.csv:1", "no column Timestamp"),
        ("b.csv", [*BURST, "-3,m,1,1,2,log"], "b.csv:2", "Timestamp is '-3'"),
        ("b.csv", [*BURST, "1e300,m,1,1,2,log"], "b.csv:2", "Timestamp is '1e300'"),
        ("b.csv", [*BURST, "1,m,1e300,1,2,log"], "b.csv:2", "Request tokens is '1e300'"),
        ("b.csv", [*BURST, "1,m,1,1,2,log", '2,"m,1,1,2,log', "3,m,1,1,2,log"], "b.csv:3", "2 fields, 6 columns"),
        ("b.csv", [*BURST, f"1,{'m' * 200_000},1,1,2,log"], "b.csv:2", "no csv: field larger"),
        ("e.csv", ["x" * 200_000], "e.csv:1", "no csv: field larger"),
        ("m.jsonl", ['{"timestamp": -1, "input_length": 1, "output_length": 1}'], "m.jsonl:1", "timestamp is -1"),
        ("m.jsonl", ['{"a":' + "[" * 100_000], "m.jsonl:1", "not a JSON object"),
        ("m.jsonl", ["{"], "m.jsonl:1", "not a JSON object"),
        ("m.jsonl", ['{"timestamp": 0, "input_length": 1}'], "m.jsonl:1", "output_length is None"),
        ("m.jsonl", ['{"timestamp": "0", "input_length": 1, "output_length": 1}'], "m.jsonl:1", "timestamp is '0'"),
        (
            "m.jsonl",
            ['{"timestamp": 0, "input_length": 1, "output_length": 1, "hash_ids": 3}'],
            "m.jsonl:1",
            "hash_ids",
        ),
    ],
)
def test_a_broken_file_is_refused_with_its_line_and_the_fix(
    tmp_path: Path, name: str, lines: list[str], where: str, what: str
) -> None:
    path = tables.write(tmp_path / name, lines)
    with pytest.raises(ConfigError) as error:
        reading.load(path, None, 0)
    assert where in str(error.value)
    assert what in str(error.value)
    assert error.value.fix


def test_a_packed_file_that_breaks_off_is_refused(tmp_path: Path) -> None:
    whole = tables.write(tmp_path / "a.csv.gz", [*AZURE, *(f"2023-11-16 00:00:00,{n},1" for n in range(9999))])
    whole.write_bytes(whole.read_bytes()[:-200])
    with pytest.raises(ConfigError, match="cannot be read"):
        reading.load(whole, None, 0)


def test_a_line_that_is_no_text_is_named(tmp_path: Path) -> None:
    path = tables.write(tmp_path / "b.csv", [*BURST, *(f"{at},é,1,1,2,log" for at in range(99))])
    path.write_bytes(path.read_bytes() + b"99,\xff\xfe,1,1,2,log\n")
    with pytest.raises(ConfigError, match=r"b\.csv:101: no UTF-8"):
        reading.load(path, None, 0)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be opened"):
        reading.load(tmp_path / "none.csv", None, 0)


def test_a_folder_with_one_trace_is_that_trace_and_with_two_is_refused(tmp_path: Path) -> None:
    lines = [*BURST, *(f"{at},m,1,1,2,log" for at in range(5))]
    tables.write(tmp_path / "one.csv", lines)
    assert reading.load(tmp_path, None, 0).workload == "one"
    tables.write(tmp_path / "two.csv", lines)
    with pytest.raises(ConfigError, match=r"It holds one\.csv, two\.csv"):
        reading.load(tmp_path, None, 0)


def test_a_folder_without_traces_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="ServeGen folder"):
        reading.load(tmp_path, None, 0)


def test_the_only_workload_of_a_folder_need_not_be_named(tmp_path: Path) -> None:
    tables.servegen(tmp_path / "one", ["chat,0,2.0"])
    tables.servegen(tmp_path / "two", ["chat,0,2.0", "code,0,2.0"])
    assert reading.load(tmp_path / "one", None, 0).per_second.sum() == 1200
    with pytest.raises(ConfigError, match="--workload with one of chat, code"):
        reading.load(tmp_path / "two", None, 0)
