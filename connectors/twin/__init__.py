"""A simulated fleet with the HTTP face of vLLM 0.32: pure model (load, engine, fleet, page), thin shell (server).

The same model runs recorded requests without a clock (trace, offline, capacity).

Beside it stands what a cloud's API would be (deeds, actuation, journal: orders under tokens and fences, not forgotten),
its controller over HTTP (controller) and the news of changes by hand (notices).
"""
