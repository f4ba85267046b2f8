"""Pure folds: snapshots to windows, windows to SLIs, scrapes to latest values."""
