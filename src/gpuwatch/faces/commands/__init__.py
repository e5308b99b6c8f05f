"""The verbs, one a module. The module's docstring is its help: the first line the summary, the rest examples."""
