"""The top floor: settings, wiring, supervisor, live view and command line."""

__version__ = "0.2.0"
