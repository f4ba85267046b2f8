"""Dashboards: what leaves the platform for people; so far, alerts."""
