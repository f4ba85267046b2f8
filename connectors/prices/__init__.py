"""List prices of GPU instances, read from published catalogues into one shape."""
