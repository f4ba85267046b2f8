"""Stage `rules`: what counts as evidence and as time, what a set of candidates holds, cooldowns, and bounded state."""

from __future__ import annotations

from contracts.events import CandidateSet, Sli, Tick
from contracts.laws.ids import cause_id
from contracts.stage import Scope
from contracts.topics import ALERTS, CANDIDATES, FINDINGS, SLIS, TICKS
from rules.book import EngineSeat, RuleBook
from rules.core.fold import RuleSettings
from rules.core.reference import PythonEngine
from rules.core.ruleset import make_ruleset
from rules.stages import stages
from tests.rules.builders import START_MS, WAITING, WORKLOAD, Workload, pack, random_log, rule, sli, tick

HIGH = 9.0


def only(outputs: list[object]) -> CandidateSet:
    (found,) = outputs
    assert isinstance(found, CandidateSet)
    return found


def test_a_set_tells_who_what_when_and_on_which_evidence() -> None:
    other = WAITING | {"sli": "requests_running", "window": "10s", "above": 0}
    packs = [pack({"up": rule(), "more": rule(priority=900, any=["busy"])}, {"waiting": WAITING, "busy": other})]
    workload = Workload(packs)
    workload.tell(sli(0, 10, requests_running=4.0, cause_s=1))
    told = sli(2, requests_waiting=HIGH, replicas_up=3, kv_cache_usage_ratio=0.5).model_copy(
        update={"coverage_ratio": 0.75}
    )
    found = only(list(workload.tell(told)))
    assert (found.workload, found.at_ms, found.cause_ms) == (WORKLOAD, START_MS + 2000, START_MS + 2000)
    assert [(c.rule, c.priority, c.pack, c.cooldown_s) for c in found.candidates] == [
        ("more", 900, "demo", 60.0),
        ("up", 100, "demo", 60.0),
    ]
    assert [[fact.condition for fact in c.facts] for c in found.candidates] == [["waiting", "busy"], ["waiting"]]
    # Only what rules speak of is kept.
    assert found.evidence == {0: {"requests_waiting": HIGH, "replicas_up": 3.0}, 10: {"requests_running": 4.0}}
    assert (found.replicas, found.coverage_ratio) == (3, 0.75)
    assert found.candidate_id(found.candidates[1]) == cause_id("candidate", "up", 1, WORKLOAD, START_MS + 2000)
    assert len(found.model_dump_json()) < 3000


def test_a_rule_fires_while_it_holds_once_a_cooldown() -> None:
    workload = Workload([pack({"up": rule(cooldown="20s")})])
    log = [m for s in range(50) for m in (sli(s, requests_waiting=HIGH), tick(s))]
    assert workload.fired(*log) == [(0, ("up",)), (20, ("up",)), (40, ("up",))]


def test_each_rule_cools_down_for_itself() -> None:
    workload = Workload([pack({"up": rule(cooldown="20s"), "more": rule(priority=7, cooldown="30s")})])
    log = [m for s in range(50) for m in (sli(s, requests_waiting=HIGH), tick(s))]
    both = ("up", "more")
    assert workload.fired(*log) == [(0, both), (20, ("up",)), (30, ("more",)), (40, ("up",))]


def test_revisions_instances_and_sizes_that_no_rule_names_do_not_count() -> None:
    workload = Workload([pack()])
    silent = (
        sli(0, requests_waiting=HIGH, revision=1),
        sli(0, requests_waiting=HIGH, instance_id="chat-0"),
        sli(0, 300, requests_waiting=HIGH),
    )
    assert workload.tell(*silent) == []
    assert workload.state is None


def test_an_older_window_changes_nothing_and_a_later_telling_of_the_same_one_supersedes() -> None:
    workload = Workload([pack({"up": rule(cooldown="1s")})])
    assert workload.tell(sli(10, requests_waiting=0.0, cause="a")) == []
    before = workload.state
    assert workload.tell(sli(9, requests_waiting=HIGH)) == []
    assert workload.tell(sli(10, requests_waiting=0.0, cause="a")) == []
    assert workload.state == before
    assert workload.fired(sli(10, requests_waiting=HIGH, cause="b")) == [(10, ("up",))]


def test_a_message_that_tells_nothing_new_gives_the_very_same_state_back() -> None:
    book, seat = RuleBook(), EngineSeat(PythonEngine)
    (stage,) = stages(book, seat, RuleSettings())
    state, _ = stage.step(None, [sli(0, replicas_up=3), tick(0)])
    for message in (sli(0, replicas_up=3), tick(0), sli(0, 10, revision=2), sli(0, instance_id="x")):
        after, outputs = stage.step(state, [message])
        assert after is state
        assert outputs == []


def test_an_sli_pushes_time_no_more_than_a_little_past_the_ticks() -> None:
    workload = Workload([pack({"up": rule(cooldown="1s")})])
    workload.tell(sli(0, requests_waiting=0.0), tick(0))
    assert workload.fired(sli(40, requests_waiting=HIGH)) == [(5, ("up",))]
    assert workload.fired(tick(1), tick(4)) == []
    assert workload.fired(tick(6), tick(7)) == [(6, ("up",)), (7, ("up",))]


def test_what_a_clock_that_is_ahead_told_is_not_fresh_for_longer() -> None:
    workload = Workload([pack({"up": rule(cooldown="1s")})])
    workload.tell(sli(0, requests_waiting=0.0), tick(0))
    fired = workload.fired(sli(50, requests_waiting=HIGH), *(tick(s) for s in range(1, 60)))
    assert fired[-1] == (35, ("up",))


def test_what_a_clock_that_is_far_ahead_told_is_no_evidence() -> None:
    workload = Workload([pack()])
    workload.tell(sli(0, requests_waiting=0.0), tick(0))
    assert workload.tell(sli(3600, requests_waiting=HIGH), tick(1)) == []
    assert workload.fired(sli(2, requests_waiting=HIGH)) == [(2, ("up",))]


def test_a_clock_that_is_ahead_when_nobody_knows_the_time_yet_is_set_right_by_the_first_tick() -> None:
    workload = Workload([pack(conditions={"waiting": WAITING | {"for": "2s"}})])
    workload.tell(sli(3600, requests_waiting=HIGH), tick(0))
    log = [m for s in range(1, 5) for m in (sli(s, requests_waiting=HIGH), tick(s))]
    assert workload.fired(*log) == [(3, ("up",))]


def test_a_tick_before_the_first_sli_makes_no_state() -> None:
    workload = Workload([pack()])
    assert workload.tell(tick(0)) == []
    assert workload.state is None


def test_a_workload_that_nobody_speaks_of_is_forgotten() -> None:
    workload = Workload([pack()])
    workload.tell(sli(0, requests_waiting=HIGH), tick(0), tick(3600))
    assert workload.state is not None
    workload.tell(tick(3601))
    assert workload.state is None


def test_a_rule_may_fire_on_silence_and_tells_that_it_knows_nothing() -> None:
    silent = {"sli": "replicas_up", "window": "latest", "at_least": 0, "on_missing": True, "for": "40s", "doc": "d"}
    gone = {"sli": "requests_running", "window": "latest", "below": 0, "on_missing": True, "doc": "d"}
    workload = Workload([pack({"up": rule(all=["silent", "gone"])}, {"silent": silent, "gone": gone})])
    found = only(list(workload.tell(sli(0, requests_running=1.0), *(tick(s) for s in range(1, 60)))))
    assert found.at_ms == START_MS + 40_000
    assert found.cause_ms == found.at_ms
    assert (found.replicas, found.coverage_ratio, found.evidence) == (None, 0.0, {})


def test_a_condition_that_was_edited_begins_its_hold_anew_and_another_does_not() -> None:
    held = WAITING | {"for": "10s"}

    def packs(above: float, doc: str) -> list[object]:
        edited = {"waiting": held, "load": held | {"sli": "load_per_replica", "above": above, "doc": doc}}
        return [pack({"up": rule(), "two": rule(priority=1, all=["load"])}, edited)]

    def tell(workload: Workload, *seconds: int) -> list[tuple[float, tuple[str, ...]]]:
        return workload.fired(
            *(m for s in seconds for m in (sli(s, requests_waiting=HIGH, load_per_replica=HIGH), tick(s)))
        )

    workload = Workload(packs(4, "d"))  # type: ignore[arg-type]
    assert tell(workload, *range(0, 6)) == []
    workload.rules = make_ruleset(packs(4, "other words"))  # type: ignore[arg-type]
    assert tell(workload, 6) == []
    workload.rules = make_ruleset(packs(5, "d"))  # type: ignore[arg-type]
    assert tell(workload, *range(7, 20)) == [(10, ("up",)), (17, ("two",))]


def test_a_rule_that_is_gone_is_not_remembered() -> None:
    workload = Workload([pack({"up": rule(), "two": rule(priority=1)})])
    workload.tell(sli(0, requests_waiting=HIGH), tick(0))
    workload.rules = make_ruleset([pack({"two": rule(priority=1, cooldown="5s")})])
    workload.tell(sli(6, requests_waiting=HIGH), tick(6))
    assert workload.state is not None
    assert list(workload.state.fired.proposed_ms) == ["two"]


def test_more_rules_than_a_set_can_hold_are_told_in_two_sets() -> None:
    many = {f"rule-{n:03}": rule(priority=n, tests=rule()["tests"]) for n in range(120)}
    workload = Workload([pack(many)])
    assert workload.fired(sli(0, requests_waiting=HIGH), tick(1)) == [
        (0, tuple(f"rule-{n:03}" for n in range(119, 19, -1))),
        (1, tuple(f"rule-{n:03}" for n in range(19, -1, -1))),
    ]


def test_state_stays_small() -> None:
    workload = Workload(RuleBook().rules.packs)
    sizes = []
    for message in random_log(7):
        workload.tell(message)
        sizes.append(len(workload.state.model_dump_json()) if workload.state else 0)
    assert 500 < max(sizes) < 5000


def test_the_stage_is_declared_on_its_topics_and_asks_no_engine_before_it_has_to() -> None:
    made: list[object] = []

    def make(rules: object) -> PythonEngine:
        made.append(rules)
        return PythonEngine(book.rules.shapes)

    book = RuleBook()
    (stage,) = stages(book, EngineSeat(make), RuleSettings())
    assert (stage.name, stage.scope) == ("rules", Scope.WORKLOAD)
    assert (stage.inputs, stage.outputs) == ((SLIS, FINDINGS, TICKS), (CANDIDATES, ALERTS))
    assert made == []
    assert isinstance(sli(0), Sli)
    assert stage.state_key(Tick(at_ms=0, partition=0)) is None
    assert stage.state_key(sli(0)) == WORKLOAD
