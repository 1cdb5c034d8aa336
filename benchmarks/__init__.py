"""Frozen suites and the scripts that measure simeval itself."""
