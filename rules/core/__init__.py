"""Pure parts of the rule language: what a rule is, when its conditions hold, and what it then proposes."""
