"""The child process at its own edge: it ends with its parent, and nothing but answers goes to its stdout."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest

from rules.engines.process import COMMAND
from tests.rules.engines.helpers import gone, until

PARENT = """
import sys
from rules.engines.compiler import compile_rules
from rules.engines.process import RulesChild
from rules.core.shapes import RuleShape
child = RulesChild(compile_rules([RuleShape("slow", 1, all=("hot",))]), timeout_s=20)
print(child.pid, flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("hung", [False, True])
def test_a_child_dies_with_its_parent_even_when_it_hangs(hung: bool) -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    if hung:
        os.kill(pid, signal.SIGSTOP)
    parent.kill()
    parent.communicate()
    until(lambda: gone(pid))


def test_a_child_whose_parent_is_gone_already_does_not_begin() -> None:
    done = subprocess.run([*COMMAND, "1"], input=b'{"shards": []}\n', capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, b"")


def test_what_is_printed_by_chance_is_no_answer() -> None:
    text = (
        "import os; from rules.engines.child import own_stdout; answers = own_stdout(); "
        "print('by Python', flush=True); os.write(1, b'by C'); answers.write(b'an answer'); answers.flush()"
    )
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, timeout=60, check=True)
    assert done.stdout == b"an answer"
    assert b"by Python" in done.stderr
    assert b"by C" in done.stderr


@pytest.mark.parametrize("said", [b"nonsense\n", b"[]\n", b'{"shards": 5}\n', b'{"shards": []}\n{"ask": 1}\n'])
def test_an_order_that_makes_no_sense_is_answered_with_an_error(said: bytes) -> None:
    command = [*COMMAND, str(os.getpid())]
    done = subprocess.run(command, input=said, capture_output=True, timeout=60, check=True)
    assert "error" in json.loads(done.stdout.splitlines()[-1])


def test_an_interrupt_from_the_keyboard_is_left_to_the_parent() -> None:
    with subprocess.Popen([*COMMAND, str(os.getpid())], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(b'{"shards": []}\n')
        child.stdin.flush()
        assert json.loads(child.stdout.readline()) == {"ready": 0}
        child.send_signal(signal.SIGINT)
        child.stdin.write(b'{"ask": 1, "moments": [[]]}\n')
        child.stdin.flush()
        assert json.loads(child.stdout.readline()) == {"answer": 1, "fired": [[]]}
        child.stdin.close()
        assert child.wait(60) == 0
