"""Reviewers: one port, several members; whatever goes wrong in any of them is no approval."""
