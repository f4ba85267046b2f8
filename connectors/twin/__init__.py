"""A simulated fleet with the HTTP face of vLLM 0.32: pure model (load, engine, fleet, page), thin shell (server)."""
