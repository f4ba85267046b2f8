"""What must hold between the parts of packs: names, priorities, tests, and what may rest on missing data.

An action that takes capacity may never rest on missing data. So in such a rule every condition of `all` and `any` is
false while its value is missing, and every condition of `none` is true then, at once: doubt forbids. There are two ways
round. For a workload that is idle: nobody sends requests, so nothing is observed of their latency or errors, and the
burn rate is missing though all is well. A condition of `none` on such an SLI may be `on_missing: false` beside a
condition of `all` that bounds the load from above over the same window: that one is present and low only where scrapes
are answered and little is to be done, and then silence is idleness. For a finding that is not there: that it is not is
beyond doubt. A condition of `none` that asks no more (`at_least: 0`, which every finding meets) may be
`on_missing: false`: the rule steps back for an agent, and acts by its other conditions where there is none. What agents
find is never all that such a rule rests on: one condition of `all` at least is on an SLI.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from contracts.events import ActionKind
from contracts.laws.bounds import Comparator
from contracts.objectives import Latency
from rules.core.language import Condition, OnMissing, window_name
from rules.core.pack import Rule
from rules.core.places import Place, Problem, Tree

Mistake = tuple[Place, str, str]

LOAD_SLIS = ("load_per_replica", "requests_running", "requests_waiting")
"""How much there is to do; told by every scrape that is answered, also when it is nothing."""

_SETS = ("all", "any", "none")


def observed(sli: str) -> bool:
    """Whether an SLI is made of finished requests, so that an idle workload has none."""
    families = tuple(f"{family}_" for family in Latency)
    return sli.startswith(families) or sli in ("queue_time_p95_s", "error_ratio", "prefix_cache_hit_ratio")


def names(root: Mapping[str, Any]) -> Iterator[Mistake]:
    """Names of conditions in rules, read from the plain file: they are checked even where other parts are unsound."""
    conditions, rules = root.get("conditions"), root.get("rules")
    known = list(conditions) if isinstance(conditions, Mapping) else []
    for rule, body in rules.items() if isinstance(rules, Mapping) else ():
        if not isinstance(body, Mapping):
            continue
        seen: dict[str, str] = {}
        for part in _SETS:
            told = body.get(part)
            for n, name in enumerate(told if isinstance(told, list) else ()):
                place: Place = ("rules", rule, part, n)
                if not isinstance(name, str):
                    continue
                if name not in known:
                    near = get_close_matches(name, known, n=1)
                    fix = (
                        f"Did you mean {near[0]!r}?" if near else f"There are {', '.join(map(repr, known)) or 'none'}."
                    )
                    yield place, f"unknown condition {name!r}", fix
                elif name in seen:
                    yield place, f"condition {name!r} stands in {seen[name]} already", "Keep one."
                seen[name] = part
        if not body.get("all") and not body.get("any"):
            yield ("rules", rule), f"rule {rule!r} fires on nothing", "Name a condition in `all` or `any`."


def meaning(rules: Mapping[str, Rule], conditions: Mapping[str, Condition]) -> Iterator[Mistake]:
    """What rules that are sound by themselves may not say."""
    for name, rule in rules.items():
        here: Place = ("rules", name)
        answers = [case.expect.fires is None for case in rule.tests.values()]
        if not any(answers) or all(answers):
            which = "fires" if not any(answers) else "does not fire"
            yield (*here, "tests"), f"rule {name!r} has no test in which it {which}", "Write one: a rule proves itself."
        kind = rule.action.kind
        if kind is not ActionKind.SCALE_UP:
            what = "takes capacity" if kind.takes_capacity else "moves requests"
            if rule.undo is not None:
                back = "gives capacity back" if kind is ActionKind.SCALE_DOWN else "sets back what was before"
                yield (*here, "undo"), f"the undo of this action {back} and is always allowed", "Remove `undo`."
            tried = not kind.gateway_setting  # nothing is lost at a gateway: what misses its effect is set back
            if tried and not (rule.effect.guards and rule.effect.settle):
                fix = "Add `guards` on SLIs that an idle workload has too, and `settle`."
                yield (*here, "effect"), f"an action that {what} is tried before it is final", fix
            elif kind is ActionKind.SCALE_DOWN and all(guard.window for guard in rule.effect.guards):
                fix = "Add one with `window: latest`: a window tells minutes later what the action does to users."
                yield (
                    (*here, "effect", "guards"),
                    "an action that takes capacity has no guard that sees it at once",
                    fix,
                )
            if kind.takes_capacity:
                yield from _on_data(here, rule, conditions)
        elif rule.undo is None:
            fix = "Add `undo: {guards: [...]}`: what must hold before capacity is taken back."
            yield here, "the undo of this action takes capacity", fix
        yield from _in_time(here, rule)


def _in_time(here: Place, rule: Rule) -> Iterator[Mistake]:
    """A trial ends at `by`. Until the first window after the last step has ended, its guards are not known."""
    effect = rule.effect
    window_s = max((guard.window for guard in effect.guards), default=0)
    by_s = effect.by.shortest_s
    if by_s <= effect.settle + window_s:
        waits = f"settle {effect.settle:g}s" + (f" and a guard over {window_name(window_s)}" if window_s else "")
        fix = f"Make `by` longer than {effect.settle + window_s:g}s."
        yield (*here, "effect", "by"), f"by {by_s:g}s leaves no time for {waits}: it could never end well", fix


def _on_data(here: Place, rule: Rule, conditions: Mapping[str, Condition]) -> Iterator[Mistake]:
    """An action that takes capacity never rests on missing data: see the head of this module."""
    for part in ("all", "any"):
        for n, name in enumerate(getattr(rule, part)):
            found = conditions.get(name)
            if found and found.on_missing is not OnMissing.FALSE:
                yield (
                    (*here, part, n),
                    f"{name!r} may hold while its value is missing, and this rule takes capacity",
                    f"Make it a condition with `on_missing: false`, not `{found.on_missing}`.",
                )
    told = [found for name in (*rule.all, *rule.any) if (found := conditions.get(name))]
    if any(each.finding for each in told) and not any(c.sli for name in rule.all if (c := conditions.get(name))):
        fix = "Add a condition on an SLI to `all`: what scrapes see."
        yield here, f"rule {here[-1]!r} takes capacity on what an agent finds alone", fix
    windows = {c.size_s for name in rule.all if (c := conditions.get(name)) and _bounds_load(c)}
    for n, name in enumerate(rule.none):
        found, place = conditions.get(name), (*here, "none", n)
        if found is None:
            continue
        if found.for_s:
            fix = "Use a condition without `for`."
            yield place, f"{name!r} forbids only after {found.for_s:g}s, and this rule takes capacity", fix
        idle = found.on_missing is OnMissing.FALSE and observed(found.name) and found.size_s in windows
        absent = found.on_missing is OnMissing.FALSE and found.bound.asks_presence
        if found.on_missing is not OnMissing.TRUE and not idle and not absent:
            fix = "Give it `on_missing: true`: doubt forbids."
            if observed(found.name):
                fix += (
                    " Or `on_missing: false` beside a condition in `all` that bounds "
                    f"{', '.join(LOAD_SLIS[:-1])} or {LOAD_SLIS[-1]} from above over {window_name(found.size_s)}: "
                    "then silence is idleness."
                )
            if found.finding:
                fix += " Or ask only whether it is there: `at_least: 0` and `on_missing: false`."
            yield place, f"{name!r} may not hold while its value is missing, and this rule takes capacity", fix


def _bounds_load(condition: Condition) -> bool:
    return (
        condition.name in LOAD_SLIS
        and condition.on_missing is OnMissing.FALSE
        and condition.bound.comparator in (Comparator.LT, Comparator.LE)
    )


def across(trees: Sequence[tuple[str, Tree]]) -> Iterator[tuple[str, Problem]]:
    """Packs that work together: names of packs and rules, and priorities, stand once."""
    first: dict[tuple[str, Any], str] = {}

    def once(kind: str, value: Any, file: str, place: Place, tree: Tree) -> Iterator[tuple[str, Problem]]:
        line = tree.line(place)
        before = first.setdefault((kind, value), f"{file}:{line}")
        if before != f"{file}:{line}":
            yield file, Problem(line, f"{kind} {value!r} again, first in {before}", "Choose another.")

    for file, tree in trees:
        root = tree.root if isinstance(tree.root, Mapping) else {}
        if isinstance(root.get("pack"), str):
            yield from once("pack", root["pack"], file, ("pack",), tree)
        rules = root.get("rules")
        for rule, body in rules.items() if isinstance(rules, Mapping) else ():
            yield from once("rule", rule, file, ("rules", rule), tree)
            priority = body.get("priority") if isinstance(body, Mapping) else None
            if isinstance(priority, int) and not isinstance(priority, bool):
                yield from once("priority", priority, file, ("rules", rule, "priority"), tree)
