"""Everything that knows one outside system, a folder each."""
