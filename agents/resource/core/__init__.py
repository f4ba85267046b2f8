"""The pure part of the resource agent."""
