"""Trace files and memory snapshots, read in pieces and without running anything that is in them."""
