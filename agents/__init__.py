"""Agents: a reviewer judges what rules propose, the arbiter decides, the executor acts through the ledger."""
