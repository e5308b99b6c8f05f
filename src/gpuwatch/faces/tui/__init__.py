"""The screen: what the snapshot knows, drawn in a terminal. Textual is imported nowhere else."""
