"""The disk tier: KV blocks in slab files, each checked before it is served. Standard library and numpy alone."""
