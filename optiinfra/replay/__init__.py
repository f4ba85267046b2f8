"""Replay: scalers beside an oracle, and the whole policy, on traffic that really came, in virtual time."""
