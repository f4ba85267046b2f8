"""Gateways before the replicas: a client of the small protocol of `docs/gateway.md`, and their controller."""
