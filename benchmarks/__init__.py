"""One module a claim; each prints one JSON line. `make bench-<name>` runs it."""
