"""Reading a vLLM metrics page, without I/O: mapping of names, pages to samples, samples to snapshots, slots of time."""
