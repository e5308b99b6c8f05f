"""The engine and its values: no I/O, no clock, no asyncio, no torch. Where it would need the time, it is given it."""
