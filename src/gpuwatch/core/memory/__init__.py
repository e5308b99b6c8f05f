"""How much GPU memory a job takes: a trace of its network, replayed through a model of the allocator, for any card."""
