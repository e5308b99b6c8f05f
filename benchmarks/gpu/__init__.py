"""The GPU protocol: DDColor's memory and time on a real card, one fresh process a case."""
