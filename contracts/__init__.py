"""The ground floor: what every package agrees on (messages, topics, catalogue, stages, ports, laws).

Imports the standard library and pydantic only; nothing here reads a clock, a file, the network or the environment.
"""
