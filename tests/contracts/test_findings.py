"""What a finding may say, and that rules can tell its numbers from SLIs."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from contracts.catalog.findings import FINDINGS, KINDS, span_s
from contracts.catalog.slis import SLIS
from contracts.events import Finding
from contracts.laws.bounds import Bound, Comparator, value_of

SIZING = Finding(workload="chat", kind="sizing", at_ms=60_000, cause_ms=59_000, values={"replicas_short": 2.0})


def test_no_kind_of_finding_has_the_window_of_another_or_of_an_sli() -> None:
    assert len(set(KINDS.values())) == len(KINDS)
    assert not {0, 10, 60, 300} & set(KINDS.values())


def test_no_number_of_a_finding_has_the_name_of_an_sli() -> None:
    assert not FINDINGS.keys() & SLIS.keys()
    assert {each.kind for each in FINDINGS.values()} == KINDS.keys()


@pytest.mark.parametrize(
    "wrong", [{"kind": "guess"}, {"values": {"replicas_up": 1.0}}, {"values": {"nonsense": 1.0}}], ids=str
)
def test_what_the_catalogue_does_not_know_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match="finding"):
        Finding.model_validate(SIZING.model_dump() | wrong)


def test_a_bound_reads_a_finding_as_it_reads_an_sli_and_not_when_it_is_old() -> None:
    size_s = span_s("replicas_short")
    bound = Bound(sli="replicas_short", size_s=size_s, comparator=Comparator.GE, value=1.0)
    assert value_of({size_s: SIZING}, bound, 60_000, max_age_s=30.0) == 2.0
    assert value_of({size_s: SIZING}, bound, 60_000 + 46_000, max_age_s=30.0) is None
