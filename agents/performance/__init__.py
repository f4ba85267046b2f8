"""Capacity: how many replicas a workload needs, before it needs them."""
