"""The states of a stage, by partition and key, and what their changelog must hold so that a restart finds them all.

The embedded broker does not compact: it drops the oldest records of a full partition, and with them the state of a key
that has been quiet. There the keeper writes the oldest states again before they reach the end of what is kept.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from pydantic import BaseModel, ValidationError

from contracts.errors import OptiInfraError

REWRITE_AFTER_BYTES = 2 * 1024 * 1024
"""Well inside the 5 MiB a partition that librdkafka's mock cluster keeps."""


@dataclass
class _Part:
    """One partition, by key: its state, parsed once asked for, and the offset of the record that holds or ends it."""

    states: dict[str, BaseModel | bytes] = field(default_factory=dict)
    offsets: dict[str, int] = field(default_factory=dict)
    written: int = 0  # bytes ever written to the changelog partition
    last: dict[str, int] = field(default_factory=dict)  # where in those bytes a key was last written, oldest first


class StateKeeper:
    """States of the partitions assigned to this worker; `rewrites` is for a broker that does not compact.

    What is older than what is known of a key changes nothing: after a rebalance Faust reads the changelog of a
    partition that stayed here from where its last recovery ended, with all that this worker has written since.
    """

    def __init__(self, model: type[BaseModel], *, rewrites: bool) -> None:
        self._model, self._rewrites = model, rewrites
        self._parts: dict[int, _Part] = {}

    def load(self, partition: int, key: str, value: bytes | None, offset: int) -> None:
        """Take a changelog record, unless a newer one of its key is known; None forgets the key."""
        if offset > self._part(partition).offsets.get(key, -1):
            self._take(partition, key, value, value, offset)

    def get(self, partition: int, key: str) -> BaseModel | None:
        """The state of a key. Raises OptiInfraError for one that this version cannot read."""
        states = self._part(partition).states
        found = states.get(key)
        if isinstance(found, bytes):
            try:
                found = self._model.model_validate_json(found)
            except ValidationError as error:
                raise OptiInfraError(
                    f"the stored state of {key!r} is not a {self._model.__name__} of this version: {error}",
                    fix="Run the version that wrote it, or forget all state with optiinfra reset.",
                ) from error
            states[key] = found
        return found

    def keys(self, partition: int) -> list[str]:
        """Keys with state, sorted: the order in which a tick visits them."""
        return sorted(self._part(partition).states)

    def put(self, partition: int, key: str, state: BaseModel | bytes | None, value: bytes | None, offset: int) -> None:
        """Keep a state whose changelog record `value` has been acknowledged; an offset below zero is an unknown one."""
        self._take(partition, key, state, value, offset)

    def keep_only(self, partitions: Iterable[int]) -> None:
        """Forget the partitions that went to another worker."""
        kept = set(partitions)
        self._parts = {number: part for number, part in self._parts.items() if number in kept}

    def due_for_rewrite(self, partition: int, budget_bytes: int) -> list[tuple[str, bytes]]:
        """States to write again now, oldest first, about `budget_bytes` of them: never more than was written anyway."""
        due: list[tuple[str, bytes]] = []
        if not self._rewrites:
            return due
        part = self._part(partition)
        for key, at in part.last.items():
            if budget_bytes <= 0 or part.written - at < REWRITE_AFTER_BYTES:
                break
            state = part.states[key]
            value = state if isinstance(state, bytes) else dump(state)
            due.append((key, value))
            budget_bytes -= len(value)
        return due

    def _part(self, partition: int) -> _Part:
        return self._parts.setdefault(partition, _Part())

    def _take(
        self, partition: int, key: str, state: BaseModel | bytes | None, value: bytes | None, offset: int
    ) -> None:
        part = self._part(partition)
        part.offsets[key] = max(offset, part.offsets.get(key, -1))
        part.written += len(key) + len(value or b"")
        part.last.pop(key, None)
        if state is None:
            part.states.pop(key, None)
        else:
            part.states[key] = state
            part.last[key] = part.written


def dump(state: BaseModel) -> bytes:
    """A state as its changelog record holds it."""
    return state.model_dump_json(exclude_defaults=True).encode()
