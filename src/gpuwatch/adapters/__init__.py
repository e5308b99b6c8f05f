"""The edges: every file, process, driver and socket is touched here and nowhere else."""
