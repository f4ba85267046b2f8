"""The engine on durable_rules: a child process decides which rules fire, and the reference evaluator stands behind it.

No moment is ever lost. A child that dies, hangs, errs or says nonsense is killed and started again, and asked again
once; after that the reference evaluator answers, and the child is tried again later, each time after a longer wait.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence

from rules.core.reference import fire as reference
from rules.core.shapes import Facts, RuleShape
from rules.engines.compiler import compile_rules
from rules.engines.process import COMMAND, ChildFault, RulesChild

RESTARTED, FALLBACK, DISAGREES = "rule_engine_restarted", "rule_engine_fallback", "rule_engine_disagrees"

OnTrouble = Callable[[str, str], None]
"""Told what is worth an alert: its name, one of the three above, and what happened."""

AT_ONCE = 100
"""Moments in one question. The slowest rules that fit take some milliseconds a moment: far from the time-out."""
FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 300.0
CALM_AFTER_S = 600.0
"""After so long without a fault the next one counts as the first; longer than the longest wait."""

_FIX = (
    "Install the extra optiinfra[durable]; it is built on the spot and needs a C compiler and Python's headers, "
    "on Python 3.11 or 3.12."
)


def available(python: str = sys.executable, *, timeout_s: float = 20.0) -> str:
    """Why durable_rules cannot be used here, with the remedy; empty where it can. Tried out in a process of its own."""
    command = [python, "-c", "import durable.engine"]
    try:
        tried = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"durable_rules cannot be tried out: {error}. {_FIX}"
    if tried.returncode == 0:
        return ""
    said = tried.stderr.strip().splitlines() or [f"exit code {tried.returncode}"]
    return f"durable_rules cannot be imported: {said[-1]}. {_FIX}"


class DurableEngine:
    """Fires rules through durable_rules, as `rules.core.shapes.Engine` says. New rules want a new engine: rulesets
    cannot be unloaded, so they end with their process. `fire` blocks, and is for one thread, which had better live as
    long as the engine: on Linux a child ends with the thread that started it.

    `clock_s` gives seconds that never go back; it times the waits between tries. Time-outs are wall seconds: of the
    start with its compilation, and of one question of at most `AT_ONCE` moments. Of the questions every
    `check_every`-th (0: none) is put to the reference evaluator too, which wins where they differ.
    """

    name = "durable_rules"

    def __init__(
        self,
        rules: Sequence[RuleShape],
        *,
        on_trouble: OnTrouble,
        clock_s: Callable[[], float],
        compile_timeout_s: float = 20.0,
        ask_timeout_s: float = 2.0,
        check_every: int = 1,
        command: Sequence[str] = COMMAND,
    ) -> None:
        self._rules = tuple(rules)
        self._program = compile_rules(self._rules)
        self._on_trouble, self._clock_s, self._command = on_trouble, clock_s, tuple(command)
        self._compile_timeout_s, self._ask_timeout_s, self._check_every = compile_timeout_s, ask_timeout_s, check_every
        self._child: RulesChild | None = None
        self._closed = False
        self._why = ""
        self._why_told = True
        self._faults = 0
        self._last_fault_s = self._not_before_s = float("-inf")
        self._disputed: set[str] = set()
        self.restarts = 0
        """Times that a child was started after one was lost."""
        self.fallbacks = 0
        """Questions that the reference evaluator answered, because no child did."""
        self.disagreements = 0
        """Moments for which the child and the reference evaluator differed."""
        self.questions = 0
        """Questions answered, by either."""

    @property
    def child_pid(self) -> int | None:
        """The process id of the child; None while there is none."""
        return self._child.pid if self._child else None

    def fire(self, moments: Sequence[Facts]) -> list[tuple[str, ...]]:
        """Raises KeyError where a condition is missing in the facts, as the reference evaluator does."""
        if self._closed:
            raise RuntimeError("a closed engine decides nothing")
        answers: list[tuple[str, ...]] = []
        for at in range(0, len(moments), AT_ONCE):
            answers += self._answer(moments[at : at + AT_ONCE])
        return answers

    def close(self) -> None:
        """End the child. The engine cannot be used after that."""
        self._closed = True
        child, self._child = self._child, None
        if child is not None:
            child.close()

    def _answer(self, moments: Sequence[Facts]) -> list[tuple[str, ...]]:
        """One question: of a child, of a fresh child where that one failed, else of the reference evaluator."""
        holding = [self._program.holding(facts) for facts in moments]
        self.questions += 1
        for _ in range(2):
            if self._child is None and self._clock_s() < self._not_before_s:
                break
            try:
                child = self._child or self._start()
                fired = child.ask(holding, self._ask_timeout_s)
            except ChildFault as fault:
                self._lose(fault)
            else:
                names = self._program.names
                return self._checked(moments, [tuple(names[rank] for rank in ranks) for ranks in fired])
        return self._fall_back(moments)

    def _start(self) -> RulesChild:
        self._child = RulesChild(self._program, timeout_s=self._compile_timeout_s, command=self._command)
        if self._why:
            self.restarts += 1
            self._on_trouble(RESTARTED, f"{self._why}; it was started again")
            self._why_told = True
        return self._child

    def _lose(self, fault: ChildFault) -> None:
        """Kill the child, and say when the next may start: at once after the first fault, then later and later. One
        that does not even start is not tried again at once: the wait for it was long enough."""
        child, self._child = self._child, None
        if child is not None:
            child.kill()
        now_s = self._clock_s()
        calm = now_s - self._last_fault_s > CALM_AFTER_S
        self._faults = (0 if calm else self._faults) + 1
        if child is None:
            self._faults = max(self._faults, 2)
        wait_s = min(FIRST_WAIT_S * 2.0 ** min(self._faults - 2, 30), LONGEST_WAIT_S) if self._faults > 1 else 0.0
        self._last_fault_s, self._not_before_s = now_s, now_s + wait_s
        self._why, self._why_told = fault.message, False

    def _fall_back(self, moments: Sequence[Facts]) -> list[tuple[str, ...]]:
        self.fallbacks += 1
        if not self._why_told:
            wait_s = self._not_before_s - self._last_fault_s
            self._on_trouble(FALLBACK, f"{self._why}; the reference evaluator answers, next try in {wait_s:g} s")
            self._why_told = True
        return self._by_reference(moments)

    def _by_reference(self, moments: Sequence[Facts]) -> list[tuple[str, ...]]:
        return [reference(self._rules, facts) for facts in moments]

    def _checked(self, moments: Sequence[Facts], answers: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
        """The answers, compared with the reference evaluator's when it is their turn."""
        if not self._check_every or self.questions % self._check_every:
            return answers
        right = self._by_reference(moments)
        for said, meant in zip(answers, right, strict=True):
            if said == meant:
                continue
            self.disagreements += 1
            differing = set(said) ^ set(meant) or set(said)
            if not differing <= self._disputed:  # one word for each rule: the same facts may come with every tick
                self._disputed |= differing
                self._on_trouble(
                    DISAGREES,
                    f"durable_rules fires {', '.join(said) or 'nothing'} and the reference evaluator "
                    f"{', '.join(meant) or 'nothing'} on the same facts; the reference evaluator's answer stands",
                )
        return right
