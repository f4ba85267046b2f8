"""What an engine's adapter needs besides the disk tier, without importing an engine: choice, requests, recording."""
