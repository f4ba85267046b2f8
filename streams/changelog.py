"""The states of a stage, by partition and key, and what their changelog must hold so that a restart finds them all.

The embedded broker does not compact: it drops the oldest records of a full partition, and with them the state of a key
that has been quiet. There the keeper writes the oldest states again before they reach the end of what is kept.
"""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import BaseModel, ValidationError

from contracts.errors import OptiInfraError

REWRITE_AFTER_BYTES = 2 * 1024 * 1024
"""Well inside the 5 MiB a partition that librdkafka's mock cluster keeps."""


class StateKeeper:
    """States of the partitions assigned to this worker; `rewrites` is for a broker that does not compact."""

    def __init__(self, model: type[BaseModel], *, rewrites: bool) -> None:
        self._model, self._rewrites = model, rewrites
        self._states: dict[int, dict[str, BaseModel | bytes]] = {}
        self._written: dict[int, int] = {}  # bytes ever written to the changelog partition
        self._last: dict[int, dict[str, int]] = {}  # where in those bytes a key was last written, oldest first

    def load(self, partition: int, key: str, value: bytes | None) -> None:
        """Take a changelog record, in log order; None forgets the key. It is parsed when first asked for."""
        self._note(partition, key, value)
        if value is None:
            self._states.get(partition, {}).pop(key, None)
        else:
            self._states.setdefault(partition, {})[key] = value

    def get(self, partition: int, key: str) -> BaseModel | None:
        """The state of a key. Raises OptiInfraError for one that this version cannot read."""
        found = self._states.get(partition, {}).get(key)
        if isinstance(found, bytes):
            try:
                found = self._model.model_validate_json(found)
            except ValidationError as error:
                raise OptiInfraError(
                    f"the stored state of {key!r} is not a {self._model.__name__} of this version: {error}",
                    fix="Run the version that wrote it, or forget all state with optiinfra reset.",
                ) from error
            self._states[partition][key] = found
        return found

    def keys(self, partition: int) -> list[str]:
        """Keys with state, sorted: the order in which a tick visits them."""
        return sorted(self._states.get(partition, {}))

    def put(self, partition: int, key: str, state: BaseModel | None, value: bytes | None) -> None:
        """Keep a state whose changelog record `value` has been acknowledged."""
        self._note(partition, key, value)
        if state is None:
            self._states.get(partition, {}).pop(key, None)
        else:
            self._states.setdefault(partition, {})[key] = state

    def keep_only(self, partitions: Iterable[int]) -> None:
        """Forget the partitions that went to another worker."""
        kept = set(partitions)
        for partition in set(self._states) - kept:
            del self._states[partition]
            self._written.pop(partition, None)
            self._last.pop(partition, None)

    def due_for_rewrite(self, partition: int, budget_bytes: int) -> list[tuple[str, bytes]]:
        """States to write again now, oldest first, about `budget_bytes` of them: never more than was written anyway."""
        due: list[tuple[str, bytes]] = []
        if not self._rewrites:
            return due
        for key, at in self._last.get(partition, {}).items():
            if budget_bytes <= 0 or self._written[partition] - at < REWRITE_AFTER_BYTES:
                break
            state = self._states[partition][key]
            value = state if isinstance(state, bytes) else dump(state)
            due.append((key, value))
            budget_bytes -= len(value)
        return due

    def _note(self, partition: int, key: str, value: bytes | None) -> None:
        last = self._last.setdefault(partition, {})
        last.pop(key, None)
        self._written[partition] = self._written.get(partition, 0) + len(key) + len(value or b"")
        if value is not None:
            last[key] = self._written[partition]


def dump(state: BaseModel) -> bytes:
    """A state as its changelog record holds it."""
    return state.model_dump_json(exclude_defaults=True).encode()
