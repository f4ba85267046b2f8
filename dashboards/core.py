"""What of the alerts is told to people, and in what form: no repeats in a row, nothing below the severity asked for."""

from __future__ import annotations

import json
from dataclasses import dataclass

from contracts.events import Alert, Severity

MAX_GROUPS = 10_000
"""So many different alerts are remembered; the one told longest ago is forgotten first, and then told again."""

_ORDER = (Severity.INFO, Severity.WARNING, Severity.CRITICAL)

Group = tuple[str, str, str]


@dataclass
class _Told:
    alert_id: str
    at_ms: int
    more: int = 0


class Storm:
    """Tells the first of many alike: alerts of one workload, name and subject within `group_s` event seconds of the
    one that was told are counted, and the next that is told says how many they were.

    Its memory is that of the process: after a restart the next alert of each kind is told.
    """

    def __init__(self, group_s: float) -> None:
        self._group_ms = group_s * 1000.0
        self._told: dict[Group, _Told] = {}

    def held_back(self, alert: Alert) -> bool:
        """Whether it is one of many; a repeat of the very alert that was told is not counted."""
        told = self._told.get(_group(alert))
        if told is None:
            return False
        if told.alert_id == alert.id:
            return True
        if abs(alert.at_ms - told.at_ms) >= self._group_ms:
            return False
        told.more += 1
        return True

    def more(self, alert: Alert) -> int:
        """How many like it were held back since the last one that was told."""
        told = self._told.get(_group(alert))
        return told.more if told else 0

    def told(self, alert: Alert, said: int) -> None:
        """It was told, and said that there were `said` more; what else was held back is still to be said."""
        before = self._told.pop(_group(alert), None)
        self._told[_group(alert)] = _Told(alert.id, alert.at_ms, before.more - said if before else 0)
        if len(self._told) > MAX_GROUPS:
            del self._told[next(iter(self._told))]


def heard(alert: Alert, least: Severity) -> bool:
    """Whether it is at least as severe as people want to hear."""
    return _ORDER.index(alert.severity) >= _ORDER.index(least)


def body_of(alert: Alert, more: int) -> str:
    """The alert as one line of JSON, the same for the screen and the webhook; `at` is event time, int ms UTC."""
    told = {
        "type": Alert.TYPE,
        "id": alert.id,
        "at": alert.at_ms,
        "workload": alert.workload,
        "name": alert.name,
        "severity": alert.severity.value,
        "subject": alert.subject,
        "summary": f"{alert.summary} (and {more} more like it before)" if more else alert.summary,
        "fix": alert.fix,
    }
    return json.dumps(told, separators=(",", ":"))


def _group(alert: Alert) -> Group:
    return (alert.workload, alert.name, alert.subject)
