"""A child that dies, hangs, errs or talks nonsense: every moment still has its right answer, and people are told."""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
from pathlib import Path

import psutil
import pytest

from rules.core.shapes import RuleShape
from rules.engines.compiler import Program, Shard, compile_rules
from rules.engines.durable import (
    AT_ONCE,
    CALM_AFTER_S,
    DISAGREES,
    FALLBACK,
    FIRST_WAIT_S,
    LONGEST_WAIT_S,
    RESTARTED,
    DurableEngine,
    available,
)
from rules.engines.process import COMMAND, ChildFault, RulesChild
from tests.rules.engines.helpers import RULES, children, every_moment, gone, moment, right, running, script

MOMENTS = every_moment()[:AT_ONCE]
RIGHT = right(RULES, MOMENTS)
READY = 'import json, os, sys, time; sys.stdin.readline(); print(json.dumps({"ready": 1}), flush=True)\n'


def child_of(engine: DurableEngine) -> int:
    """The child that runs, started by a first question if need be."""
    engine.fire(MOMENTS[:1])
    pid = engine.child_pid
    assert pid is not None
    return pid


def counting(tmp_path: Path, then: str) -> tuple[tuple[str, ...], Path]:
    """A child that leaves a line in a file when it starts, for how often it did."""
    starts = tmp_path / "starts"
    starts.touch()
    return script(f"import os, sys\nwith open({str(starts)!r}, 'a') as f: f.write('x')\n{then}"), starts


def test_a_child_killed_between_two_questions_is_started_again() -> None:
    with running() as (engine, troubles, _):
        pid = child_of(engine)
        os.kill(pid, signal.SIGKILL)
        assert engine.fire(MOMENTS) == RIGHT
        assert (engine.restarts, engine.fallbacks) == (1, 0)
        assert troubles.names == [RESTARTED]
        assert "SIGKILL" in troubles[0][1]
        assert gone(pid)
        assert engine.child_pid not in (None, pid)


def test_a_child_killed_in_the_middle_of_a_question_is_asked_again() -> None:
    with running() as (engine, troubles, _):
        pid = child_of(engine)
        os.kill(pid, signal.SIGSTOP)  # so that the question is still with it when it dies
        killer = threading.Timer(0.3, os.kill, (pid, signal.SIGKILL))
        killer.start()
        assert engine.fire(MOMENTS) == RIGHT
        killer.join()
        assert (engine.restarts, engine.fallbacks) == (1, 0)
        assert "SIGKILL" in troubles[0][1]


def test_a_child_that_hangs_is_killed_and_another_one_answers() -> None:
    with running() as (engine, troubles, _):
        pid = child_of(engine)
        os.kill(pid, signal.SIGSTOP)
        assert engine.fire(MOMENTS) == RIGHT
        assert gone(pid)
        assert (engine.restarts, engine.fallbacks) == (1, 0)
        assert "no answer within 2 s" in troubles[0][1]


def test_children_killed_again_and_again_lose_no_moment() -> None:
    rng = random.Random(3)
    asked = every_moment()
    wanted = right(RULES, asked)
    with running() as (engine, _, clock):
        for _ in range(40):
            if engine.child_pid is not None and rng.random() < 0.4:
                os.kill(engine.child_pid, signal.SIGKILL)
            clock.now_s += rng.choice((0.0, 1.0, 400.0))
            assert engine.fire(asked) == wanted
        assert engine.restarts > 1
        assert engine.questions == 40 * -(-len(asked) // AT_ONCE)


def test_a_compilation_that_never_ends_is_given_up_and_not_tried_again_at_once() -> None:
    rules = "{f'r{i}': {'all': [{'m': {f'c{i}': True}}], 'run': lambda c: None} for i in range(560)}"
    hangs = script(f"from durable import engine; engine.Host({{'s': {rules}}})")
    before = children()
    with running(command=hangs, compile_timeout_s=1.0) as (engine, troubles, _):
        assert engine.fire(MOMENTS) == RIGHT
        assert (engine.restarts, engine.fallbacks) == (0, 1)
        assert troubles.names == [FALLBACK]
        assert "no answer within 1 s" in troubles[0][1]
        assert children() == before


@pytest.mark.parametrize(
    ("says", "seen"),
    [
        ("print('Segmentation fault', flush=True); time.sleep(60)", "not JSON"),
        ("os.write(1, bytes(range(256)) + b'\\n'); time.sleep(60)", "not JSON"),
        ("print([1, 2], flush=True); time.sleep(60)", "no object"),
        ("print(json.dumps({'answer': 7, 'fired': []}), flush=True); time.sleep(60)", "no answer to the question"),
        ("print(json.dumps({'answer': 1, 'fired': [[99]]}), flush=True); time.sleep(60)", "no answer to the question"),
        (
            "print(json.dumps({'answer': 1, 'fired': [[True]]}), flush=True); time.sleep(60)",
            "no answer to the question",
        ),
        ("print(json.dumps({'error': 'MemoryError: '}), flush=True); time.sleep(60)", "erred: MemoryError"),
        ("os.close(1); time.sleep(60)", "closed its pipe"),
        ("sys.exit(3)", "ended with code 3"),
        ("os.kill(os.getpid(), 11)", "died of SIGSEGV"),
        ("time.sleep(60)", "no answer within 1 s"),
    ],
)
def test_a_child_that_talks_nonsense_is_not_believed(says: str, seen: str) -> None:
    command = script(f"{READY}sys.stdin.readline(); {says}")
    before = children()
    with running(command=command, ask_timeout_s=1.0) as (engine, troubles, _):
        assert engine.fire(MOMENTS[:1]) == RIGHT[:1]
        assert troubles.names == [RESTARTED, FALLBACK]  # asked again once, then the reference evaluator
        assert seen in troubles[0][1]
        assert seen in troubles[1][1]
    assert children() == before


def test_a_child_that_does_not_read_cannot_block_the_question() -> None:
    """The question is larger than a pipe takes."""
    names = tuple(f"n{n}" for n in range(240))
    rules = [RuleShape("wide", 1, any=names[:50], none=names[50:])]
    moments = [moment(*names, names=names)] * AT_ONCE
    with running(rules, command=script(f"{READY}time.sleep(60)"), ask_timeout_s=0.5) as (engine, _, _):
        assert engine.fire(moments) == right(rules, moments)
        assert engine.fallbacks == 1


def test_a_child_that_is_ready_with_nonsense_is_not_used() -> None:
    with running(command=script("print('hello', flush=True); input(); input()")) as (engine, troubles, _):
        assert engine.fire(MOMENTS) == RIGHT
        assert troubles.names == [FALLBACK]


def test_a_program_that_is_not_there_falls_back_and_says_so() -> None:
    with running(command=("/nonexistent/python",)) as (engine, troubles, _):
        assert engine.fire(MOMENTS) == RIGHT
        assert "cannot be started" in troubles[0][1]


def test_the_reference_evaluator_is_right_where_the_two_differ() -> None:
    silent = script(
        f"{READY}"
        "for line in sys.stdin:\n"
        "    asked = json.loads(line)\n"
        "    print(json.dumps({'answer': asked['ask'], 'fired': [[] for _ in asked['moments']]}), flush=True)\n"
    )
    with running(command=silent) as (engine, troubles, _):
        assert engine.fire(MOMENTS) == RIGHT
        assert engine.fire(MOMENTS) == RIGHT
        assert engine.disagreements == 2 * sum(bool(names) for names in RIGHT)
        assert set(troubles.names) == {DISAGREES}
        assert len(troubles) <= len(RULES)  # once for each rule, not for each moment
    with running(command=silent, check_every=2) as (engine, troubles, _):
        assert engine.fire(MOMENTS) == [()] * len(MOMENTS)
        assert engine.fire(MOMENTS) == RIGHT


def test_what_durable_rules_refuses_is_a_fault_with_its_words() -> None:
    """More alternatives at once than it can follow; the compiler writes no such ruleset."""
    names = tuple(f"n{n}" for n in range(65))
    patterns = tuple({"$and": [{f"c{n}": True}]} for n in range(65))
    program = Program(conditions=names, names=names, shards=(Shard(tuple(range(65)), tuple(range(65)), patterns),))
    child = RulesChild(program, timeout_s=20)
    with pytest.raises(ChildFault, match="error code: 303"):
        child.ask([list(range(65))], 5)
    child.close()
    assert gone(child.pid)


def test_a_broken_child_is_not_started_for_every_question(tmp_path: Path) -> None:
    command, starts = counting(tmp_path, "sys.exit(3)")
    with running(command=command) as (engine, troubles, clock):
        for _ in range(20):
            assert engine.fire(MOMENTS) == RIGHT
        assert len(starts.read_text()) == 1
        assert (engine.fallbacks, troubles.names) == (20, [FALLBACK])  # told once, though it answers every time
        clock.now_s += FIRST_WAIT_S
        assert engine.fire(MOMENTS) == RIGHT
        assert len(starts.read_text()) == 2
        clock.now_s += FIRST_WAIT_S  # the next wait is longer
        assert engine.fire(MOMENTS) == RIGHT
        assert len(starts.read_text()) == 2
        assert troubles.names == [FALLBACK, FALLBACK]


def test_the_wait_between_tries_has_a_limit(tmp_path: Path) -> None:
    command, starts = counting(tmp_path, "sys.exit(3)")
    with running(command=command) as (engine, _, clock):
        for _ in range(14):
            engine.fire(MOMENTS[:1])
            clock.now_s += LONGEST_WAIT_S
        assert len(starts.read_text()) == 14


def test_a_child_that_dies_of_every_question_is_not_started_for_every_question(tmp_path: Path) -> None:
    command, starts = counting(tmp_path, f"{READY}sys.stdin.readline(); sys.exit(4)")
    with running(command=command) as (engine, _, _):
        for _ in range(20):
            assert engine.fire(MOMENTS) == RIGHT
        assert len(starts.read_text()) == 2


def test_a_child_that_is_whole_again_takes_over(tmp_path: Path) -> None:
    command, starts = counting(
        tmp_path,
        f"len(open({str(tmp_path / 'starts')!r}).read()) > 2 or sys.exit(3)\nos.execv({sys.executable!r}, "
        f"[*{COMMAND!r}, sys.argv[-1]])",
    )
    with running(command=command) as (engine, troubles, clock):
        for _ in range(6):
            assert engine.fire(MOMENTS) == RIGHT
            clock.now_s += FIRST_WAIT_S
        assert len(starts.read_text()) == 3
        assert troubles.names == [FALLBACK, FALLBACK, RESTARTED]
        assert (engine.restarts, engine.child_pid is not None) == (1, True)


def test_after_a_calm_time_a_fault_is_the_first_one_again() -> None:
    with running() as (engine, troubles, clock):
        for _ in range(3):
            os.kill(child_of(engine), signal.SIGKILL)
            assert engine.fire(MOMENTS) == RIGHT
            clock.now_s += CALM_AFTER_S + 1
        assert troubles.names == [RESTARTED] * 3


def test_a_closed_engine_leaves_no_process_and_decides_nothing() -> None:
    before = children()
    engine = DurableEngine(RULES, on_trouble=lambda name, detail: None, clock_s=lambda: 0.0)
    assert engine.fire(MOMENTS) == RIGHT
    pid = engine.child_pid
    assert children() - before == {pid}
    engine.close()
    engine.close()
    assert children() == before
    with pytest.raises(RuntimeError, match="closed"):
        engine.fire(MOMENTS)


def test_a_hung_child_is_closed_too() -> None:
    before = children()
    with running() as (engine, _, _):
        os.kill(child_of(engine), signal.SIGSTOP)
    assert children() == before


def test_a_child_ends_by_itself_when_its_pipe_is_closed() -> None:
    child = RulesChild(compile_rules(RULES), timeout_s=20)
    process = psutil.Process(child.pid)
    child._in.close()
    assert process.wait(20) == 0
    child.close()


def test_where_durable_rules_is_missing_the_extra_is_named(tmp_path: Path) -> None:
    bare = tmp_path / "python"
    bare.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')  # without site-packages
    bare.chmod(0o755)
    why = available(str(bare))
    assert "No module named 'durable'" in why
    assert "optiinfra[durable]" in why
    assert "C compiler" in why
    assert "cannot be tried out" in available(str(tmp_path / "nothing"))
