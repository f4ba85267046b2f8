"""vLLM servers: which names they export, how their pages are read, where they are found and when they are asked."""
