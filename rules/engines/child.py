"""The process in which durable_rules runs: rules come in once, then moments, and the rules that fire go out.

    python -m rules.engines.child PARENT_PID

One JSON object a line. In: `{"shards": [{"fields": [0, 1], "ranks": [0], "rules": {…}}]}`, then
`{"ask": 1, "moments": [[0, 3], …]}` with the indices of the conditions that hold. Out: `{"ready": RULESETS}`, then
`{"answer": 1, "fired": [[0], …]}` with the ranks of the rules that fire; or `{"error": "…"}`, after which it ends.
It ends with its parent, and when stdin is closed. durable_rules may crash or hang: that is why this is a process.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, BinaryIO

from rules.engines.compiler import MESSAGE_ID

PR_SET_PDEATHSIG = 1


def die_with(parent_pid: int) -> None:
    """Let the kernel kill this process when its parent dies, even in a call that never returns (prctl(2)); elsewhere
    than on Linux it ends when it next reads. The check closes the gap in which the parent may have died before."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent_pid:
        os._exit(0)


def own_stdout() -> BinaryIO:
    """The pipe to the parent, kept for answers alone: whatever else is printed, by C code too, goes to stderr."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return answers


class Rulesets:
    """The rulesets of one engine, in this process. Raises what durable_rules raises."""

    def __init__(self, shards: Sequence[Mapping[str, Any]]) -> None:
        from durable import engine

        class Host(engine.Host):  # type: ignore[misc] # no types are published
            def _run(self) -> None:
                """No threads: the original starts two, for timers that no rule of ours has."""

        self._no_match: type[Exception] = engine.MessageNotHandledException
        self._fired: list[int] = []
        self._fields: dict[str, tuple[int, ...]] = {}
        definitions: dict[str, Any] = {}
        for n, shard in enumerate(shards):
            name = f"s{n}"
            self._fields[name] = tuple(shard["fields"])
            definitions[name] = {
                rule: {**body, "run": self._collect(rank)}
                for (rule, body), rank in zip(shard["rules"].items(), shard["ranks"], strict=True)
            }
        self._host = Host(definitions)

    def _collect(self, rank: int) -> Callable[[object], None]:
        """What a rule does when it fires. durable_rules hides the exceptions of it: it can have none."""
        fired = self._fired

        def collect(_: object) -> None:
            fired.append(rank)

        return collect

    def fire(self, holding: Sequence[int]) -> list[int]:
        """The ranks of the rules that fire, each once, rising."""
        held = frozenset(holding)
        self._fired.clear()
        for name, fields in self._fields.items():
            self._look(name, {**MESSAGE_ID, **{f"c{index}": index in held for index in fields}})
        return sorted(set(self._fired))

    def _look(self, name: str, message: dict[str, Any]) -> None:
        """Put a message before one ruleset and take it back, whatever happens: one that stayed would match again."""
        try:
            self._host.assert_fact(name, message)
        except self._no_match:
            pass  # no rule fires: the usual case, not an error
        finally:
            self._host.retract_fact(name, message)


def serve(questions: BinaryIO, answers: BinaryIO) -> None:
    """Answer until stdin ends, or until something goes wrong, which is said first."""

    def say(what: Mapping[str, Any]) -> None:
        answers.write(json.dumps(what, separators=(",", ":")).encode() + b"\n")
        answers.flush()

    try:
        orders = questions.readline()
        if not orders:
            return
        shards = json.loads(orders)["shards"]
        rulesets = Rulesets(shards)
        say({"ready": len(shards)})
        for line in iter(questions.readline, b""):
            asked = json.loads(line)
            say({"answer": asked["ask"], "fired": [rulesets.fire(holding) for holding in asked["moments"]]})
    except BrokenPipeError:
        return  # the parent is gone
    except Exception as error:  # noqa: BLE001 - the edge of the process: whatever it was, the parent is told
        say({"error": f"{type(error).__name__}: {error}"})


def main(argv: Sequence[str]) -> None:
    """Be the child of the process named."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent too, which ends us in its own time
    die_with(int(argv[0]))
    serve(sys.stdin.buffer, own_stdout())


if __name__ == "__main__":
    main(sys.argv[1:])
