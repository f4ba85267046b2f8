"""A message written by an older version stays readable: schemas and one encoded record a topic are kept as files."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from contracts.codec import Record, decode, encode
from contracts.errors import Reason
from contracts.events import (
    Action,
    ActionKind,
    ActionSpec,
    Alert,
    Answer,
    Approval,
    AuditEntry,
    Candidate,
    CandidateSet,
    Control,
    ControlKind,
    DeadLetter,
    Decision,
    Effect,
    EndState,
    EngineSample,
    Fact,
    Finding,
    FleetEvent,
    GaugeStats,
    Heartbeat,
    InstanceWindow,
    Judgement,
    Message,
    MetricsSnapshot,
    Mode,
    Outcome,
    Refusal,
    Review,
    Risk,
    Severity,
    Sli,
    SliValue,
    Tick,
    Verdict,
    WorkerState,
)
from contracts.laws.attainment import Attainment
from contracts.laws.bounds import Bound, Comparator
from contracts.laws.histogram import Histogram
from contracts.topics import DEADLETTER, TOPICS, Topic
from tests.contracts.schemas import JsonObject, breaks, plain

GOLDEN = Path(__file__).parent / "golden"
REMEDY = "A change that older readers or writers cannot take needs a new version of the type, and with it a new topic."

TTFT = Histogram(le=(0.1, 0.5), counts=(3, 5, 6), sum=1.75)
BURN = Bound(sli="ttft_burn_rate", size_s=10, comparator=Comparator.LE, value=1.0)
EFFECT = Effect(
    expect=Bound(sli="replicas_up", size_s=0, comparator=Comparator.GE, value=4.0),
    by_s=180.0,
    goal=BURN,
    guards=(BURN,),
    settle_s=30.0,
)
CANDIDATE = Candidate(
    rule="scale-up-on-burn",
    rule_version=2,
    pack="performance",
    priority=900,
    cooldown_s=60.0,
    spec=ActionSpec(kind=ActionKind.SCALE_UP, replicas=1, effect=EFFECT, undo_guards=(BURN,), stacks=True),
    facts=(Fact(condition="burning", bound=BURN, value=3.5, holds=True, held_s=10.0, end_ms=1_700_000_020_000),),
    doc="adds a replica",
    runbook="look at the queue",
)
CANDIDATES = CandidateSet(
    workload="chat",
    at_ms=1_700_000_022_003,
    cause_ms=1_700_000_021_000,
    candidates=(CANDIDATE,),
    evidence={10: {"ttft_burn_rate": 3.5}},
    replicas=3,
    coverage_ratio=1.0,
)
JUDGEMENT = Judgement(
    rule="scale-up-on-burn", verdict=Verdict.APPROVE, confidence=0.95, risk=Risk.LOW, reasons=("one replica of three",)
)
ACTION = Action(
    workload="chat",
    target="chat/replicas",
    candidate_id="c1",
    decision_id="d1",
    rule="scale-up-on-burn",
    priority=900,
    spec=CANDIDATE.spec,
    mode=Mode.AUTONOMOUS,
    approved_by="mode:autonomous",
    preempts="a0",
    beside=("a9",),
    least_replicas=2,
    most_replicas=8,
    at_ms=1_700_000_022_003,
    cause_ms=1_700_000_021_000,
    start_by_ms=1_700_000_082_003,
)
FULL: tuple[Message, ...] = (
    CANDIDATES,
    Review(
        candidates=CANDIDATES,
        reviewer="deterministic",
        judgements=(JUDGEMENT,),
        failure="the model did not answer",
        degraded=True,
        took_s=1.5,
        cost_usd=0.01,
    ),
    Decision(
        workload="chat",
        decision_id="d1",
        revision=1,
        set_id=CANDIDATES.id,
        candidate=CANDIDATE,
        answer=Answer.REFUSED,
        reasons=(Refusal.COOLDOWN, Refusal.IN_FLIGHT),
        detail=("12 s of 60 s have passed",),
        replicas=1,
        mode=Mode.AUTONOMOUS,
        judgement=JUDGEMENT,
        reviewer="deterministic",
        at_ms=1_700_000_022_003,
        cause_ms=1_700_000_021_000,
        expires_wall_ms=1_700_086_400_000,
        action_id=ACTION.id,
        actor="ann",
        answers="9a0364b9e99bb480dd25e1f0284c8555",
    ),
    Approval(
        workload="chat",
        decision_id="d1",
        approve=True,
        actor="ann",
        reason="looks right",
        at_wall_ms=1_700_000_030_000,
        at_ms=1_700_000_030_000,
    ),
    Control(
        workload="chat",
        kind=ControlKind.MODE,
        mode=Mode.SEMI_AUTONOMOUS,
        actor="ann",
        reason="launch day",
        at_wall_ms=1_700_000_030_000,
        at_ms=1_700_000_030_000,
    ),
    FleetEvent(
        workload="chat",
        name="gateway_change",
        number=2,
        at_ms=1_700_000_030_000,
        summary="the gateway has max_in_flight 40, version 2",
        limits={"max_in_flight": 40},
    ),
    ACTION,
    Outcome(
        action=ACTION,
        end_state=EndState.VERIFIED,
        reasons=("expect_met",),
        detail="4 replicas answer",
        began_ms=1_700_000_022_100,
        at_ms=1_700_000_070_000,
        steps_applied=1,
        steps_undone=1,
        expect_met=True,
        goal_met=True,
        before={"replicas_up": 3.0},
        after={"replicas_up": 4.0},
    ),
    AuditEntry(
        number=1,
        workload="chat",
        subject=ACTION.id,
        what="recorded",
        actor="executor",
        detail="scale_up by 1",
        at_ms=1_700_000_022_050,
        at_wall_ms=1_700_000_022_050,
        previous="00",
        hash="ff",
    ),
    MetricsSnapshot(
        workload="chat",
        instance_id="chat-0",
        scraper_epoch=1_700_000_000_000,
        seq=7,
        scheduled_at_ms=1_700_000_014_000,
        scraped_at_ms=1_700_000_014_003,
        interval_s=2.0,
        duration_s=0.012,
        up=True,
        left=True,
        error="kept although it is up",
        incarnation_ms=1_699_999_000_000,
        engines={
            "0": EngineSample(
                model_name="m",
                gauges={"requests_waiting": 2.0},
                counters={"generation_tokens": 512.0},
                histograms={"ttft_s": TTFT},
            )
        },
        problems=("x: NaN",),
    ),
    InstanceWindow(
        workload="chat",
        instance_id="chat-0",
        size_s=10,
        start_ms=1_700_000_010_000,
        revision=1,
        covered_ms=9_000,
        span_ms=10_003,
        newest_ms=1_700_000_020_003,
        cause_ms=1_700_000_022_003,
        scrapes=5,
        scrapes_failed=1,
        resets=1,
        stalled=True,
        left=True,
        counters={"generation_tokens": 512.0},
        histograms={"ttft_s": TTFT},
        gauges={"requests_waiting": GaugeStats(mean=1.5, max=2.0, last=1.0)},
    ),
    Finding(
        workload="chat",
        kind="sizing",
        at_ms=1_000_000_015_000,
        cause_ms=1_000_000_014_500,
        freshness_s=0.5,
        values={"replicas_wanted": 4.0, "replicas_short": 1.0},
        words="4 replicas: 14 req/s expected after the start-up",
        by_replica={"chat-0": 1.0},
    ),
    Sli(
        workload="chat",
        instance_id="chat-0",
        size_s=10,
        start_ms=1_700_000_010_000,
        revision=1,
        coverage_ratio=0.9,
        freshness_s=1.5,
        cause_ms=1_700_000_022_003,
        cause="0af7651916cd43dd8448eb211c80319c",
        instances=1,
        instances_up=1,
        stalled=True,
        values={"ttft_p95_s": SliValue(value=0.4, samples=6), "itl_p95_s": SliValue(value=None)},
        attainment={"ttft": Attainment(good=5, total=6)},
    ),
    Alert(
        workload="chat",
        name="stalled",
        severity=Severity.CRITICAL,
        subject="chat-0",
        at_ms=1_700_000_020_000,
        summary="no token came",
        fix="Restart it.",
    ),
    Tick(at_ms=1_700_000_020_000, partition=3),
    Heartbeat(
        worker="slis-0",
        kind="stage:slis",
        pid=42,
        state=WorkerState.WORKING,
        started_wall_ms=1_700_000_000_000,
        at_wall_ms=1_700_000_002_000,
        handled=9,
        emitted=8,
        dead_letters=1,
        lag=3,
    ),
    DeadLetter(
        source="slis",
        topic="optiinfra.windows.v1",
        partition=2,
        offset=99,
        reason=Reason.SCHEMA,
        detail="workload: Field required",
        at_ms=1_700_000_020_000,
        message_key="chat",
        headers={"ce_type": "optiinfra.windows.v1"},
        raw_base64="e30=",
        raw_bytes=2,
    ),
)
BY_TYPE = {type(message): message for message in FULL}


@dataclass(frozen=True)
class Golden:
    """The files of a topic: its schema, renewed by `--update-golden`, and a record, which is never written again."""

    topic: Topic

    @property
    def schema(self) -> Path:
        return GOLDEN / f"{self.topic.name}.schema.json"

    @property
    def record(self) -> Path:
        return GOLDEN / f"{self.topic.name}.record.json"

    def update(self) -> None:
        GOLDEN.mkdir(exist_ok=True)
        _write(self.schema, today(self.topic))
        if not self.record.exists():
            record = encode(BY_TYPE[self.topic.message], source="golden")
            texts: JsonObject = {"key": record.key.decode(), "value": record.value.decode()}
            _write(self.record, texts | {"headers": [[name, value.decode()] for name, value in record.headers]})

    def read_record(self) -> Record:
        texts = json.loads(self.record.read_text())
        headers = tuple((name, value.encode()) for name, value in texts["headers"])
        return Record(self.topic.name, texts["key"].encode(), texts["value"].encode(), headers)


def _write(path: Path, found: Any) -> None:
    path.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")


def today(topic: Topic) -> JsonObject:
    found: JsonObject = plain(topic.message.model_json_schema())
    return found


@pytest.fixture(scope="module", autouse=True)
def renewed(request: pytest.FixtureRequest) -> None:
    """With `--update-golden` the files are renewed first, unless that would hide a break."""
    if request.config.getoption("--update-golden", default=False):
        for golden in map(Golden, TOPICS):
            if golden.schema.exists():
                assert breaks(json.loads(golden.schema.read_text()), today(golden.topic)) == [], REMEDY
            golden.update()


@pytest.fixture(params=TOPICS, ids=lambda topic: topic.name)
def golden(request: pytest.FixtureRequest) -> Golden:
    return Golden(request.param)


def test_the_schema_of_a_topic_is_the_one_that_was_agreed(golden: Golden) -> None:
    agreed = json.loads(golden.schema.read_text())
    assert breaks(agreed, today(golden.topic)) == [], REMEDY
    assert agreed == today(golden.topic), "Nothing breaks: write the new schema with pytest --update-golden."


def test_a_record_of_an_older_writer_is_read_in_full(golden: Golden) -> None:
    record = golden.read_record()
    message = decode(record)
    again = encode(message, source="golden")
    assert json.loads(again.value) == json.loads(record.value)
    assert again.key == record.key
    if golden.topic is not DEADLETTER:  # who repeats what must agree on ids; a dead letter is for people
        assert message.id == record.header("ce_id")


def test_the_record_of_a_topic_says_all_that_could_be_said_when_it_was_written(golden: Golden) -> None:
    """A field left out at its default would be renamed unnoticed."""
    fields = json.loads(golden.schema.read_text())["properties"].keys()
    assert BY_TYPE[golden.topic.message].model_dump(exclude_defaults=True).keys() == fields


def test_every_topic_has_its_files_and_no_other_has() -> None:
    assert {path.name for path in GOLDEN.iterdir()} == {
        path.name for topic in TOPICS for path in (Golden(topic).schema, Golden(topic).record)
    }


def _optional(schema: JsonObject) -> None:
    schema["properties"]["note"] = {"default": "", "type": "string"}


def _required(schema: JsonObject) -> None:
    schema["properties"]["note"] = {"type": "string"}
    schema["required"].append("note")


def _renamed(schema: JsonObject) -> None:
    schema["properties"]["repair"] = schema["properties"].pop("fix")


def _retyped(schema: JsonObject) -> None:
    schema["properties"]["at_ms"]["type"] = "number"


def _other_default(schema: JsonObject) -> None:
    schema["properties"]["workload"]["default"] = "platform"


def _narrowed(schema: JsonObject) -> None:
    schema["properties"]["summary"]["maxLength"] = 10


def _no_longer_required(schema: JsonObject) -> None:
    schema["required"].remove("summary")


def _member_gone(schema: JsonObject) -> None:
    schema["$defs"]["Severity"]["enum"].remove("info")


def _member_more(schema: JsonObject) -> None:
    schema["$defs"]["Severity"]["enum"].append("debug")


def _part_gone(schema: JsonObject) -> None:
    del schema["$defs"]["Severity"]


def _opened(schema: JsonObject) -> None:
    schema["additionalProperties"] = True


def _reworded(schema: JsonObject) -> None:
    schema["description"] = schema["properties"]["subject"]["description"] = "in other words"


@pytest.mark.parametrize(
    ("change", "complaints"),
    [
        (_optional, []),
        (_member_more, []),
        (_reworded, []),
        (_required, ["note is required now"]),
        (_renamed, ["fix is gone"]),
        (_retyped, ["at_ms has changed"]),
        (_other_default, ["workload has changed"]),
        (_narrowed, ["summary has changed"]),
        (_no_longer_required, ["summary is required no more"]),
        (_member_gone, ["Severity.info is no member any more"]),
        (_part_gone, ["Severity is gone"]),
        (_opened, ["additionalProperties of the whole has changed"]),
    ],
)
def test_what_breaks_and_what_does_not(change: Callable[[JsonObject], None], complaints: list[str]) -> None:
    schema = Alert.model_json_schema()
    change(schema)
    found = breaks(plain(Alert.model_json_schema()), plain(schema))
    assert [each.startswith(wanted) for each, wanted in zip(found, complaints, strict=True)] == [True] * len(complaints)
