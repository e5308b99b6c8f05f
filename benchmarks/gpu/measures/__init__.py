"""One module a kind of case; each has `measure(case)`, which gives what JSON can hold."""
