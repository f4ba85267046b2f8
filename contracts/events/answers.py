"""What the arbiter can say of a candidate, and the codes that say why."""

from __future__ import annotations

from enum import StrEnum


class Answer(StrEnum):
    """What the arbiter says of one candidate."""

    APPROVED = "approved"
    NEEDS_APPROVAL = "needs_approval"
    RECOMMENDED = "recommended"
    REFUSED = "refused"


class Refusal(StrEnum):
    """Why not, or why not alone. Codes are stable: dashboards and scripts match on them; all that apply are told."""

    NO_REVIEW = "no_review"
    REVIEW_FAILED = "review_failed"
    VETOED = "vetoed"
    DEMOTED = "demoted"
    DEGRADED_REVIEW = "degraded_review"
    LOW_CONFIDENCE = "low_confidence"
    RISK_TOO_HIGH = "risk_too_high"
    STALE_EVIDENCE = "stale_evidence"
    MISSING_EVIDENCE = "missing_evidence"
    OUTRANKED = "outranked"
    IN_FLIGHT = "in_flight"
    COOLDOWN = "cooldown"
    AT_MAXIMUM = "at_maximum"
    AT_MINIMUM = "at_minimum"
    NO_BOUNDS = "no_bounds"
    KILL_SWITCH = "kill_switch"
    MANUAL_CHANGE = "manual_change"
    NO_CONTROLLER = "no_controller"
    ADVISORY_MODE = "advisory_mode"
    REJECTED = "rejected"
    EXPIRED = "expired"
    SUPERSEDED = "superseded"
    FLEET_LIMIT = "fleet_limit"
    RATE_LIMIT = "rate_limit"
    LEDGER_LOST = "ledger_lost"
    OLD_FENCE = "old_fence"
    DRY_RUN_FAILED = "dry_run_failed"
    PREEMPTED = "preempted"
