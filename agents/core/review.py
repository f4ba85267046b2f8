"""How a candidate is judged by arithmetic alone: verdict, risk and confidence, each with the numbers behind it.

Confidence is `coverage × (BASE + MARGIN_WEIGHT × margin + HOLD_WEIGHT × hold) − MISSING_COST × missing facts`, in 0..1:

- `coverage`: the share of evidence that is there, as the set says;
- `margin`: how far the weakest fact is past its bound, `|value − bound| / max(|value|, |bound|)`: 0 on the bound, 0.5
  at twice or half of it. What adds capacity counts the facts that hold; what takes capacity those that hold not, too;
- `hold`: how long the youngest of the facts that hold has held, over HOLD_FULL_S.

So a value that has just crossed its bound gives 0.65, and one at twice its bound for half a minute gives 0.9.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from contracts.catalog.findings import span_s
from contracts.events import ActionKind, Candidate, CandidateSet, Fact, Judgement, Risk, Verdict
from contracts.objectives import Latency

BASE, MARGIN_WEIGHT, HOLD_WEIGHT = 0.65, 0.20, 0.15
MISSING_COST = 0.10
HOLD_FULL_S = 30.0
"""Three windows of ten seconds: longer holds make nobody surer."""

LOW_COVERAGE_RATIO = 0.8
"""Below it a person shall look."""
VETO_COVERAGE_RATIO = 0.5
"""Below it no capacity is taken."""
SMALL_TAKE_RATIO = 0.2
"""The largest share of the replicas that is taken at low risk: the step of the requirements."""
LARGE_STEP_RATIO = 0.5
"""Above it a person shall look. One replica more is the smallest step there is, and never large."""
BACKED_STEP_RATIO, BACKED_STEP_LEAST = 1.0, 2
"""How far a step up may go without a person where a sizing finding asks for as much: no more than doubling the fleet,
two on the smallest. A wrong forecast then costs a fleet once over, a missing one the users of a short fleet."""
BURN_LIMIT = 1.0
"""At this rate an error budget is spent exactly."""
QUIET_LOAD = 1.0
"""At most one request a replica: there latency may be missing, since hardly anything ends that could be measured."""

SHORT = "replicas_short"
"""The number of a sizing finding that says how many replicas more there should be."""

MAX_REASONS = 20
_VERDICTS = (Verdict.APPROVE, Verdict.DEMOTE, Verdict.VETO)
_RISKS = (Risk.LOW, Risk.MEDIUM, Risk.HIGH)


@dataclass(frozen=True)
class _Finding:
    """One thing against a candidate: what it allows at most, how many levels of risk it adds, and why, in words."""

    verdict: Verdict
    risk: int
    reason: str


def judge_all(candidates: CandidateSet) -> tuple[Judgement, ...]:
    """Every candidate of the set; a rule that stands in it twice is judged by its worse half."""
    found: dict[str, Judgement] = {}
    for candidate in candidates.candidates:
        judged = judge(candidates, candidate)
        found[judged.rule] = bound(found[judged.rule], judged) if judged.rule in found else judged
    return tuple(found.values())


def judge(candidates: CandidateSet, candidate: Candidate) -> Judgement:
    """One candidate of a set. It is approved when nothing speaks against it."""
    findings = [*_of_facts(candidates, candidate), *_of_step(candidates, candidate), *_of_set(candidates, candidate)]
    verdict = max((each.verdict for each in findings), key=_VERDICTS.index, default=Verdict.APPROVE)
    level = 2 if verdict is Verdict.VETO else min(2, sum(each.risk for each in findings))
    confidence, words = _confidence(candidates, candidate)
    findings.sort(key=lambda each: -_VERDICTS.index(each.verdict))
    return Judgement(
        rule=candidate.rule,
        verdict=verdict,
        confidence=confidence,
        risk=_RISKS[level],
        reasons=(*(each.reason for each in findings), words)[:MAX_REASONS],
    )


def bound(judgement: Judgement, limit: Judgement) -> Judgement:
    """A judgement that is nowhere wider than `limit`: the lower verdict and confidence, the higher risk. The reasons of
    whoever has the lower verdict come first: they are the ones that decide."""
    stricter = _VERDICTS.index(judgement.verdict) > _VERDICTS.index(limit.verdict)
    first, then = (judgement, limit) if stricter else (limit, judgement)
    reasons = tuple(dict.fromkeys((*first.reasons, *then.reasons)))
    return Judgement(
        rule=limit.rule,
        verdict=max(judgement.verdict, limit.verdict, key=_VERDICTS.index),
        confidence=min(judgement.confidence, limit.confidence),
        risk=max(judgement.risk, limit.risk, key=_RISKS.index),
        reasons=reasons[:MAX_REASONS],
    )


def bound_all(judgements: Iterable[Judgement], limits: Sequence[Judgement]) -> tuple[Judgement, ...]:
    """`judgements`, each within the limit of its rule. A rule without a limit is ignored, a rule that nobody judged
    stays unjudged, and one that was judged twice counts as its worse half."""
    found: dict[str, Judgement] = {limit.rule: limit for limit in limits}
    judged: set[str] = set()
    for each in judgements:
        if each.rule in found:
            found[each.rule] = bound(each, found[each.rule])
            judged.add(each.rule)
    return tuple(each for each in found.values() if each.rule in judged)


def _of_facts(candidates: CandidateSet, candidate: Candidate) -> Iterator[_Finding]:
    """Whether the facts are there, and whether they allow it."""
    takes = candidate.spec.kind.takes_capacity
    if not any(fact.holds for fact in candidate.facts):
        yield _Finding(Verdict.VETO, 2, "no fact holds: it rests on nothing")
    for fact in _missing(candidates, candidate):
        words = f"{fact.condition} is unknown: no value for {fact.bound}"
        if takes:
            yield _Finding(Verdict.VETO, 2, f"{words}; capacity is not taken on missing data")
        elif fact.holds:
            yield _Finding(Verdict.DEMOTE, 1, f"{words}, and it counts as holding")
    if not takes or candidate.spec.frees_one:  # what is missed and stuck may be the doing of the replica to be set back
        return
    for name, size_s, value in _burns(candidates, candidate):
        over = f"over {size_s} s" if size_s else "now"
        yield _Finding(
            Verdict.VETO, 2, f"{name} {over} is {value:g}, above {BURN_LIMIT:g}: an objective is being missed"
        )
    if any(values.get("stalled", 0.0) > 0 for values in candidates.evidence.values()):
        yield _Finding(Verdict.VETO, 2, "requests are there and no token comes: an engine is stuck")


def _of_step(candidates: CandidateSet, candidate: Candidate) -> Iterator[_Finding]:
    """Whether the step is fit for the fleet."""
    kind, step, replicas = candidate.spec.kind, candidate.spec.replicas, candidates.replicas
    takes = kind.takes_capacity
    if not replicas:
        words = "nobody knows how many replicas there are" if replicas is None else "no replica answers"
        yield _Finding(Verdict.VETO if takes else Verdict.DEMOTE, 2 if takes else 1, words)
        return
    if kind.gateway_setting:
        yield from _of_gateway(kind, candidate.spec.settings[kind.gateway_setting])
        return
    if kind is ActionKind.ROUTE:
        if step != replicas:
            yield _Finding(Verdict.DEMOTE, 1, f"it has shares for {step} replicas, and {replicas} answer")
        return
    if kind is ActionKind.TUNE:
        if step > 1:
            yield _Finding(Verdict.APPROVE, 1, f"{step} of {replicas} replicas are set anew, one after the other")
        step = 1  # away at a time
    share = f"{step} of {replicas} replicas" if takes else f"{step} more on {replicas} replicas"
    if takes and step >= replicas:
        yield _Finding(Verdict.VETO, 2, f"{share} would leave none")
    elif not takes and LARGE_STEP_RATIO * replicas < step and 1 < step <= _backed(candidates, replicas):
        yield _Finding(Verdict.APPROVE, 1, f"{share}: a step above {LARGE_STEP_RATIO:.0%}, as the sizing asks")
    elif step > LARGE_STEP_RATIO * replicas and (takes or step > 1):
        yield _Finding(Verdict.DEMOTE, 2 if takes else 1, f"{share}: a step above {LARGE_STEP_RATIO:.0%}")
    elif takes and step > SMALL_TAKE_RATIO * replicas:
        yield _Finding(Verdict.APPROVE, 1, f"{share}: more than {SMALL_TAKE_RATIO:.0%}")


def _of_gateway(kind: ActionKind, value: float) -> Iterator[_Finding]:
    """Who refuses requests risks more than who lets them wait, or who sets a limit back a step at a time."""
    if kind is ActionKind.CONTEXT and value:
        yield _Finding(Verdict.APPROVE, 1, f"requests of more than {value:g} tokens are refused")
    if kind is ActionKind.BREAKER and value:
        yield _Finding(Verdict.APPROVE, 1, f"every request is refused for {value:g} s")


def _backed(candidates: CandidateSet, replicas: int) -> float:
    """The largest step up that fresh evidence of sizing backs; a set holds no evidence that is too old."""
    short = candidates.evidence.get(span_s(SHORT), {}).get(SHORT, 0.0)
    return min(short, max(BACKED_STEP_RATIO * replicas, BACKED_STEP_LEAST))


def _of_set(candidates: CandidateSet, candidate: Candidate) -> Iterator[_Finding]:
    """What the rest of the set says of it."""
    takes, coverage = candidate.spec.kind.takes_capacity, _coverage(candidates, candidate)
    if takes and coverage < VETO_COVERAGE_RATIO:
        words = f"coverage {coverage:.0%} is below {VETO_COVERAGE_RATIO:.0%}: capacity is not taken on so little"
        yield _Finding(Verdict.VETO, 2, words)
    elif coverage < LOW_COVERAGE_RATIO:
        yield _Finding(Verdict.DEMOTE, 1, f"coverage {coverage:.0%} is below {LOW_COVERAGE_RATIO:.0%}")
    against = [each.rule for each in candidates.candidates if _opposite(candidate.spec.kind, each.spec.kind)]
    if against:
        verdict = Verdict.DEMOTE if takes else Verdict.APPROVE
        yield _Finding(verdict, 1, f"the opposite is proposed at the same moment, by {', '.join(against[:3])}")


def _coverage(candidates: CandidateSet, candidate: Candidate) -> float:
    """How much of the evidence is there. What a breaker rests on, engines that began anew, did happen: where some tell
    nothing, as crashed ones do, there can only be more of it."""
    return 1.0 if candidate.spec.kind is ActionKind.BREAKER else candidates.coverage_ratio


def _opposite(kind: ActionKind, other: ActionKind) -> bool:
    """Whether two actions contradict each other: more and less capacity, where settings and shares stand in the way of
    no capacity that is added."""
    if kind is ActionKind.SCALE_UP:
        return other is ActionKind.SCALE_DOWN
    return kind.takes_capacity and other is ActionKind.SCALE_UP


def _missing(candidates: CandidateSet, candidate: Candidate) -> list[Fact]:
    """Facts without a value that count. A latency that holds nothing may be missing where hardly a request is, and
    what asks only whether a finding is there has its answer: it is not."""
    load = candidates.evidence.get(0, {}).get("load_per_replica")
    quiet = load is not None and load <= QUIET_LOAD
    families = tuple(f"{family}_" for family in Latency)

    def excused(fact: Fact) -> bool:
        return not fact.holds and (fact.bound.asks_presence or (quiet and fact.bound.sli.startswith(families)))

    return [fact for fact in candidate.facts if fact.value is None and not excused(fact)]


def _burns(candidates: CandidateSet, candidate: Candidate) -> list[tuple[str, int, float]]:
    """Every error budget that burns too fast: SLI, window in seconds, rate."""
    seen = {(name, size_s): value for size_s, values in candidates.evidence.items() for name, value in values.items()}
    for fact in candidate.facts:
        if fact.value is not None:
            seen[fact.bound.sli, fact.bound.size_s] = fact.value
    names = {f"{family}_burn_rate" for family in Latency}
    return sorted((name, size, value) for (name, size), value in seen.items() if name in names and value > BURN_LIMIT)


def _confidence(candidates: CandidateSet, candidate: Candidate) -> tuple[float, str]:
    """Confidence in 0..1, and the numbers it is made of in words."""
    takes, coverage = candidate.spec.kind.takes_capacity, _coverage(candidates, candidate)
    margin = min(
        (_margin(fact) for fact in candidate.facts if fact.holds or (takes and fact.value is not None)), default=0.0
    )
    held_s = min((fact.held_s for fact in candidate.facts if fact.holds), default=0.0)
    missing = len(_missing(candidates, candidate))
    sure = BASE + MARGIN_WEIGHT * margin + HOLD_WEIGHT * min(1.0, held_s / HOLD_FULL_S)
    confidence = round(min(1.0, max(0.0, coverage * sure - MISSING_COST * missing)), 4)
    words = f"confidence {confidence:.2f}: weakest fact {margin:.0%} past its bound, held {held_s:g} s"
    return confidence, f"{words}, coverage {coverage:.0%}" + (f", {missing} facts missing" if missing else "")


def _margin(fact: Fact) -> float:
    """How clearly a fact is what it is: 0 on its bound, or where only a hysteresis or a hold makes it so; below 1."""
    value, limit = fact.value, fact.bound.value
    if value is None or fact.bound.comparator.compare(value, limit) is not fact.holds:
        return 0.0
    scale = max(abs(value), abs(limit))
    return min(1.0, abs(value - limit) / scale) if scale else 0.0
