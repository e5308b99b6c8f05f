"""What a profiler's trace or a memory snapshot says, in numbers. Takes events as values; files are the adapters' matter."""
