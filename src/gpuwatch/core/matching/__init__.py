"""Which rules speak of a record: a prefilter nominates, the rule's own pattern decides."""
