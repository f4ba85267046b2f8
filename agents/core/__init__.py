"""Pure parts: how a candidate is judged, decided, carried out and verified."""
