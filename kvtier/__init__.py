"""KV tiers: which blocks of the prefix cache are worth a disk's room and its wear, and what that saves.

`policies` and `engine` stand alone: they import the standard library and numpy, and nothing else of OptiInfra.
"""
