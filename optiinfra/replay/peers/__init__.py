"""Scalers that others publish, each in a file: as they describe it, at their cadence, with a small grid of knobs."""
