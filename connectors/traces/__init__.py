"""Traces of real traffic, read into one shape: a module for each published format, and one that is generated."""
