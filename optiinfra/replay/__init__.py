"""Replay: what a policy of scaling would have cost on traffic that really came, beside its peers and beside an oracle
that knew the future.
"""
