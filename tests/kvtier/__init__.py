"""Tests of package kvtier."""
