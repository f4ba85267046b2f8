"""The resource agent: how short memory is, and what would help: fewer tokens, tiers, more replicas."""
