"""A quantity that is known within bounds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Band:
    """A quantity that is known only within bounds."""

    low: float
    mid: float
    high: float

    @classmethod
    def exactly(cls, value: float) -> Band:
        """A value that is known."""
        return cls(value, value, value)

    def scaled(self, factor: float) -> Band:
        """The band times a number."""
        return Band(self.low * factor, self.mid * factor, self.high * factor)

    def plus(self, other: Band) -> Band:
        """The sum of two bands, low to low and high to high."""
        return Band(self.low + other.low, self.mid + other.mid, self.high + other.high)

    def times(self, other: Band) -> Band:
        """The product of two bands of positive numbers, low with low and high with high."""
        return Band(self.low * other.low, self.mid * other.mid, self.high * other.high)

    def capped(self, most: float) -> Band:
        """The band with nothing above `most`."""
        return Band(min(self.low, most), min(self.mid, most), min(self.high, most))

    def raised(self, least: float) -> Band:
        """The band with nothing below `least`."""
        return Band(max(self.low, least), max(self.mid, least), max(self.high, least))
