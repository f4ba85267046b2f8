"""The tuning part of stage `steering`: a trial of engine settings in life, as a small state machine.

    idle ── an action set one replica anew, verified ──> trying
    trying ── no worse than the rest, and of use ──> rolling ── the rest was set, verified ──> idle, with that setting
    trying ── worse, of no use, or not settled ──> back ── the canary was set back, verified ──> idle, barred for a day

A trial of KV tiers that people declared is one of these, judged by other measures (`comparing.py`), and barred until
others are declared. What it asks for it says in a finding, and rules ask the executor: nothing is taken for done before
an outcome says so.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from agents.core.allowed import allowed_s
from agents.core.moves import Why as Ended
from agents.performance.core import learning, returning
from agents.performance.core.asking import BACK, ONE, REST, TENFOLD, Asked, crowded, numbers, wanted
from agents.performance.core.canary import Canary
from agents.performance.core.comparing import Effect
from agents.performance.core.judging import HOUR_MS, gain, judged, so_far, verdict_of, watched, withdrawn
from agents.performance.core.learning import DAY_MS, WORDS_LIMIT
from agents.performance.core.minutes import Minute, replica_seen
from agents.performance.core.proposing import UNKNOWN, measured_of, propose
from agents.performance.core.steering_state import Declared, Learnt, Phase, SteeringSettings, Trial, TuningState
from agents.performance.core.trials import Setting
from agents.performance.core.usage import Why, reasons
from contracts.events import Action, ActionKind, EndState, Outcome, Refusal

LOST_MS = 900_000
"""An action of which nothing is heard so long after its time is waited for no longer."""
IDS_LIMIT = 50
AT_ONCE = 50
"""Replicas that are named at once: what a controller does in one action has an end. The others come after them."""
AGAIN_MS, AGAIN_MOST_MS, NEEDLESS = 60_000, 480_000, 3
"""After a refusal it is asked again, each time after twice as long, for every action begun counts against the limit of
the fleet. Refused so often in a row since there is nothing to do, it counts as done."""
STUCK = frozenset({Ended.GUARD_BROKEN, Ended.STEP_FAILED, Ended.UNVERIFIED, Ended.UNDO_FAILED})
"""Reasons of a change that was to be taken back and could not be: it was not good, however many steps were done."""
SEQS, TOKENS, HOST, DISK = "max_num_seqs", "max_num_batched_tokens", "kv_offloading_size", "kv_disk_gb"


class Tuning:
    """The fold of one workload's tuning, with the settings."""

    def __init__(self, settings: SteeringSettings) -> None:
        self._settings = settings

    def present(self, state: TuningState, workload: str) -> Setting | None:
        """The setting that replicas have, as far as is known."""
        return state.present or self._settings.engines.get(workload)

    def said(self, state: TuningState, action: Action) -> TuningState:
        """An action that sets engines anew was approved: until it has ended nothing else is asked for."""
        if action.spec.kind is not ActionKind.TUNE or action.id in state.ended or action.id == state.busy:
            return state
        until_ms = action.start_by_ms + round(1000 * allowed_s(action.spec)) + LOST_MS
        restart_s = action.spec.effect.by_s
        return state.model_copy(update={"busy": action.id, "busy_until_ms": until_ms, "restart_s": restart_s})

    def ended(self, state: TuningState, outcome: Outcome) -> TuningState:
        """An action is over."""
        spec, ident = outcome.action.spec, outcome.action.id
        if spec.kind is not ActionKind.TUNE or ident in state.ended:
            return state
        busy = "" if state.busy == ident else state.busy
        state = state.model_copy(update={"ended": (*state.ended, ident)[-IDS_LIMIT:], "busy": busy})
        present = self.present(state, outcome.key)
        if present is None or not spec.settings.keys() & {SEQS, TOKENS, HOST, DISK}:
            return state  # as a smaller context window, which says nothing of these
        to = Setting(
            round(spec.settings.get(SEQS, present.max_num_seqs)),
            round(spec.settings.get(TOKENS, present.max_num_batched_tokens)),
            present.tensor_parallel,
            round(spec.settings.get(HOST, present.kv_offloading_size)),
            round(spec.settings.get(DISK, present.kv_disk_gb)),
        )
        names = tuple(sorted(spec.by_replica))
        held = outcome.end_state is EndState.HELD_UNVERIFIED and state.trial is not None
        stuck = held and (outcome.steps_undone > 0 or not STUCK.isdisjoint(outcome.reasons))
        if outcome.end_state is EndState.VERIFIED or (held and not stuck and outcome.steps_applied >= len(names)):
            return self._verified(state, outcome, present, to, names)
        if state.trial is None and to == present:
            state = state.model_copy(update={"launched": Refusal.DRY_RUN_FAILED in outcome.reasons or state.launched})
            return returning.given(state, names)  # not insisted on
        undone = outcome.end_state is EndState.UNDONE
        died = outcome.end_state is EndState.FAILED and outcome.steps_applied > 0 and to.tiers != present.tiers
        if state.phase is Phase.IDLE and to != present:
            if outcome.end_state is EndState.HELD_UNVERIFIED and len(names) == 1:
                state = self._begun(state, outcome, present, to, names[0])
                return judged(state, Phase.BACK, "nobody saw what it did when it was set")
            until_ms = learning.barred_ms(present, to, outcome.at_ms) if undone or died else outcome.at_ms + HOUR_MS
            words = f"{outcome.end_state} as it was set: {outcome.detail or ', '.join(outcome.reasons)}"[:WORDS_LIMIT]
            return learning.with_learnt(state, Learnt(setting=to, kept=False, until_ms=until_ms, words=words))
        if held and state.trial is not None and to == state.trial.setting and (stuck or outcome.steps_applied):
            state = state.model_copy(update={"trial": returning.reached(state.trial, names, surely=False)})
        if state.phase is Phase.ROLLING and (undone or stuck or outcome.end_state is EndState.FAILED):
            return judged(state, Phase.BACK, "what had to hold while the rest was set did not, or it could not be set")
        return self._put_off(state, outcome, present, to, names)

    def _put_off(
        self, state: TuningState, outcome: Outcome, present: Setting, to: Setting, names: Sequence[str]
    ) -> TuningState:
        """What the trial comes to after an action that it asked for was not done: asked for again, but not at once."""
        trial, goals = state.trial, {Phase.BACK: present}
        if trial is None or state.phase is Phase.TRYING or to != goals.get(state.phase, trial.setting):
            return state
        needless = trial.needless + 1 if Refusal.DRY_RUN_FAILED in outcome.reasons else 0
        if needless >= NEEDLESS:
            return self._verified(state, outcome, present, to, names)
        again_ms = outcome.at_ms + min(AGAIN_MOST_MS, AGAIN_MS << min(trial.refused, 9))
        changes = {"refused": trial.refused + 1, "needless": needless, "again_ms": again_ms}
        return state.model_copy(update={"trial": trial.model_copy(update=changes)})

    def _verified(
        self, state: TuningState, outcome: Outcome, present: Setting, to: Setting, names: Sequence[str]
    ) -> TuningState:
        trial = state.trial
        if trial is None:
            if to == present:
                return returning.given(state.model_copy(update={"launched": False}), names)
            if len(names) == 1:
                return self._begun(state, outcome, present, to, names[0])
            given = tuple(names)
            return TuningState(present=to, given=given, past=state.past, parked=state.parked, ended=state.ended)
        if to == trial.setting and any(name != trial.canary for name in names):
            trial = returning.reached(trial, names, surely=True)
            if state.phase is Phase.BACK or len(names) >= AT_ONCE:
                return state.model_copy(update={"trial": trial})
            return self._kept(state, trial, outcome.key, present, outcome.at_ms)
        if to == present and not {trial.canary, *trial.reached}.isdisjoint(names):
            left = returning.without(trial, names)
            if left is not None:
                return state.model_copy(update={"trial": left})
            return self._over(state, trial, outcome.key, present, outcome.at_ms)
        if state.phase is Phase.BACK and to not in (present, trial.setting):  # asked for before the trial was resumed
            return state.model_copy(update={"trial": returning.reached(trial, names, surely=False)})
        return state

    def _over(self, state: TuningState, trial: Trial, workload: str, present: Setting, at_ms: int) -> TuningState:
        """Nobody who could be set back has the setting of the trial any more."""
        measured = measured_of(trial.usage, trial.capacity.estimate(), self._settings.objectives_of(workload))
        bar_ms, words = learning.barred_ms(present, trial.setting, at_ms), trial.verdict[:WORDS_LIMIT]
        until_ms = bar_ms if trial.bar_ms is None else at_ms + trial.bar_ms
        learnt = Learnt(setting=trial.setting, measured=measured, kept=False, until_ms=until_ms, words=words)
        return learning.with_learnt(state, learnt).model_copy(update={"phase": Phase.IDLE, "trial": None})

    def _kept(self, state: TuningState, trial: Trial, workload: str, present: Setting, at_ms: int) -> TuningState:
        """All have the setting of the trial: from now on it is the present one."""
        measured = measured_of(state.usage, state.capacity.estimate(), self._settings.objectives_of(workload))
        learnt = Learnt(setting=present, measured=measured, kept=True, until_ms=at_ms + DAY_MS)
        state = learning.with_learnt(state, learnt)
        return state.model_copy(
            update={
                "phase": Phase.IDLE,
                "present": trial.setting,
                "given": tuple(sorted(returning.have(trial))),
                "launched": False,
                "trial": None,
                "usage": trial.usage,
                "capacity": trial.capacity,
                "past": tuple(each for each in state.past if each.setting != trial.setting),
            }
        )

    def _begun(self, state: TuningState, outcome: Outcome, present: Setting, to: Setting, canary: str) -> TuningState:
        objectives = self._settings.objectives_of(outcome.key)
        asked = [each.why for each in reasons(state.usage, present, objectives) if each.setting == to]
        why = Why.DECLARED if to.tiers != present.tiers else asked[0] if asked else Why.FIRST
        trial = Trial(
            setting=to,
            canary=canary,
            why=why,
            since_ms=outcome.at_ms,
            requests=Canary(self._settings.terms),
            effect=self._effect(outcome, to) if why is Why.DECLARED else None,
        )
        return state.model_copy(update={"phase": Phase.TRYING, "trial": trial})

    def _effect(self, outcome: Outcome, to: Setting) -> Effect:
        terms = self._settings.tiers.get(outcome.key, Declared(to.tiers))
        warm_ms = outcome.at_ms + round(1000 * terms.warm_s)
        return Effect(warm_ms=warm_ms, watched_ms=warm_ms + round(1000 * terms.watch_s), needs_hits=any(to.tiers))

    def minute(self, state: TuningState, workload: str, end_ms: int, parts: Mapping[str, Minute]) -> TuningState:
        """A minute of the replicas is closed."""
        present = self.present(state, workload)
        if present is None:
            return state
        target, trial = self._settings.objectives_of(workload).attainment_target_ratio, state.trial
        canary = trial.canary if trial is not None else ""
        rest = {name: each for name, each in parts.items() if name != canary}
        if rest and trial is None:
            # While a trial runs, and the rest is set anew, nobody knows whose doing a minute is.
            capacity = state.capacity.seen(replica_seen(rest), target)
            usage = state.usage.seen(rest.values(), end_ms, present)
            return state.model_copy(update={"usage": usage, "capacity": capacity})
        if trial is None or state.phase is not Phase.TRYING or canary not in parts or not rest:
            return state
        if end_ms - 60_000 < trial.since_ms:
            return state
        return state.model_copy(update={"trial": watched(trial, end_ms, parts[canary], rest, present, target)})

    def look(
        self,
        state: TuningState,
        workload: str,
        at_ms: int,
        answering: Mapping[str, float],
        *,
        whole: bool,
        silent: Collection[str] = (),
        hanging: Collection[str] = (),
    ) -> tuple[TuningState, Asked]:
        """What to ask for now. `answering`: requests of each replica, least first; `silent`: the others that are there,
        `hanging`: those of them that are waited for no more; `whole`: there are no others."""
        declared = self._settings.tiers.get(workload)
        state = learning.without_past(state, self.present(state, workload), declared, at_ms)
        if state.busy and at_ms > state.busy_until_ms:
            state = state.model_copy(update={"busy": ""})
        state = returning.resumed(state, answering)
        present, trial = self.present(state, workload), state.trial
        if present is None:
            return state, Asked({}, (), UNKNOWN)
        if trial is not None and state.phase is Phase.TRYING:
            state = verdict_of(state, trial, at_ms)
        state = returning.with_new(withdrawn(state, declared), {*answering, *silent})
        trial = state.trial
        if trial is None:
            return state, self._idle(state, workload, present, answering, whole=whole)
        values = {"trial_stage": 0.0, **numbers(state)} | gain(trial)
        if state.busy:
            return state, Asked(values, (), f"an action sets replicas anew; {trial.verdict}")
        if state.phase is Phase.TRYING:
            words = f"{trial.canary} tries {trial.setting} beside {present}: {so_far(trial)}"
            return state, Asked(values, (), words)
        if at_ms < trial.again_ms:
            return state, Asked(
                values, (), f"asked for {trial.refused} times and not done, again later; {trial.verdict}"
            )
        tiers = trial.effect is not None
        if state.phase is Phase.BACK:
            name = returning.next_of(trial, answering)
            if name is None and {trial.canary, *trial.reached} <= set(hanging):
                state = returning.parked(self._over(state, trial, workload, present, at_ms), trial)
                return state, self._idle(state, workload, present, answering, whole=whole)
            if name is None:
                return state, Asked(values, (), f"{trial.canary} does not answer; {trial.verdict}")
            return state, Asked(values | wanted(BACK, present, tiers=tiers), (name,), trial.verdict)
        words = f"{trial.setting} for the rest: {trial.verdict}"
        if not whole:
            return state, Asked(values, (), f"not now: not all replicas that are listed answer; {words}")
        if crowd := crowded(present, answering):
            return state, Asked(values, (), f"not now: {crowd}; {words}")
        rest = tuple(sorted(answering.keys() - returning.have(trial)))[:AT_ONCE]
        if not rest and len(returning.have(trial)) > 1:
            state = self._kept(state, trial, workload, present, at_ms)
            return state, Asked({"trial_stage": 0.0, **numbers(state)}, (), f"all have {trial.setting}")
        return state, Asked(values | (wanted(REST, trial.setting, tiers=tiers) if rest else {}), rest, words)

    def gone(self, state: TuningState, known: Sequence[str]) -> TuningState:
        """Without what is not there any more. `known`: all replicas that there are. To be called only when it is known
        who is there: one that nobody heard of may be."""
        return returning.gone(state, known)

    def _idle(
        self, state: TuningState, workload: str, present: Setting, answering: Mapping[str, float], *, whole: bool
    ) -> Asked:
        capacity = state.capacity.estimate()
        objectives, declared = self._settings.objectives_of(workload), self._settings.tiers.get(workload)
        found = propose(present, state.usage, capacity, state.past, objectives, declared)
        values = {"trial_stage": 0.0, **numbers(state)}
        if capacity.rps is not None and found.measured is not None:
            values["goodput_per_gpu_rps"] = capacity.rps / present.tensor_parallel
        strays = tuple(sorted(name for name in answering if name not in state.given)) if state.present else ()
        launched = self._settings.engines.get(workload, present)
        tiers = present.tiers != launched.tiers
        if tiers and (declared is None or declared.tiers != present.tiers):
            # Nobody wants these tiers any more: a new replica keeps those that it was launched with.
            strays, tiers = () if Declared(launched.tiers).on(present) == launched else strays, False
        # Of the first that had it already all are taken to be launched with it, until others are given to all.
        strays, crowd = () if state.launched else strays[:AT_ONCE], crowded(present, answering)
        if strays and whole and not state.busy and not crowd:
            since = "launched since it was given to the others, and may have been launched with others"
            words = f"{present} for {', '.join(strays)}, {since}: launch with it"
            return Asked(values | wanted(REST, present, tiers=tiers), strays, words)
        if found.reason is None or state.busy:
            return Asked(values, (), found.words)
        if not whole or len(answering) < 2:
            return Asked(values, (), f"not now: a canary needs another replica beside it; {found.words}")
        if crowd:
            return Asked(values, (), f"not now: {crowd}; {found.words}")
        stage, named = state.told
        same = stage in (ONE, TENFOLD * ONE) and named[0] in answering
        canary = named[0] if same else next(iter(answering))
        tiers = found.reason.setting.tiers != present.tiers
        return Asked(values | wanted(ONE, found.reason.setting, tiers=tiers), (canary,), found.words)
