"""Benchmarks: one file a question, ratios against a peer in the same run."""
