"""The catalogue: canonical metrics in, SLIs out; each with unit, type, range and a sentence that says what it is."""
