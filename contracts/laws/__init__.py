"""Arithmetic on which two packages must agree: pure, total, free of units that lie."""
