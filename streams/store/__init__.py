"""The analytical store: named queries over ClickHouse, embedded (chDB) or by DSN, and the sink that fills it."""
