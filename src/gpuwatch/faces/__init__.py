"""What a person or a machine reads: they draw the snapshot and decide nothing."""
