"""sRGB to CIE Lab and back in numpy, in the constants that OpenCV uses for float32 images.

The network was trained on OpenCV's Lab, so these are its numbers (white D65 as 0.950456, 1, 1.088754; matrices and
breaks to six digits), from the formulas of OpenCV's "Color conversions" page, "RGB to CIE L*a*b*". OpenCV interpolates
its gamma curve in a table; here it is computed, and differs in the fourth decimal of L at most.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

_WHITE = np.array([0.950456, 1.0, 1.088754], np.float32)
_XYZ_OF_RGB = np.array(
    [[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]], np.float32
)
_RGB_OF_XYZ = np.array(
    [[3.240479, -1.53715, -0.498535], [-0.969256, 1.875991, 0.041556], [0.055648, -0.204043, 1.057311]], np.float32
)
_BREAK = np.float32(0.008856)
_SLOPE = np.float32(7.787)
_OFFSET = np.float32(16 / 116)
_L_SLOPE = np.float32(903.3)
_F_BREAK = _SLOPE * _BREAK + _OFFSET


def linear_of_srgb(srgb: Floats) -> Floats:
    """Undo the sRGB curve (IEC 61966-2-1): 0..1 to 0..1, any shape."""
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4).astype(np.float32)


def srgb_of_linear(linear: Floats) -> Floats:
    """Apply the sRGB curve (IEC 61966-2-1) after clipping to 0..1, any shape."""
    linear = np.clip(linear, 0, 1)
    return np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055).astype(np.float32)


def lightness_of_rgb(rgb: NDArray[np.uint8] | NDArray[np.uint16] | Floats) -> Floats:
    """L of (..., 3) sRGB, in bytes, in 16 bits, or floats in 0..1: (...), in 0..100."""
    if rgb.dtype not in (np.uint8, np.uint16):
        return _lightness(_luminance(linear_of_srgb(rgb.astype(np.float32, copy=False))))
    levels = 256 if rgb.dtype == np.uint8 else 65536
    if rgb.strides[-1] == 0:
        # One channel seen three times: its lightness is looked up.
        return _lightness_of_grey(levels)[rgb[..., 0]]
    return _lightness(_luminance(_linear_of_levels(levels)[rgb]))


def lab_of_rgb(rgb: Floats) -> Floats:
    """sRGB (..., 3) in 0..1 to Lab (..., 3): L in 0..100, a and b about -127..127."""
    xyz = linear_of_srgb(rgb) @ _XYZ_OF_RGB.T
    bent_x, bent_y, bent_z = np.moveaxis(_bend(xyz / _WHITE), -1, 0)
    return np.stack([_lightness(xyz[..., 1]), 500 * (bent_x - bent_y), 200 * (bent_y - bent_z)], axis=-1)


def rgb_of_lab(lab: Floats) -> Floats:
    """Lab (..., 3) to sRGB (..., 3), clipped to 0..1 where the colour is outside of sRGB."""
    lightness, a, b = np.moveaxis(lab.astype(np.float32, copy=False), -1, 0)
    return rgb_of_planes(lightness, a, b)


def rgb_of_planes(lightness: Floats, a: Floats, b: Floats) -> Floats:
    """The planes of Lab, each of the same shape, to sRGB (..., 3) as `rgb_of_lab` does.

    Every pixel by itself and by the same steps, so that an image cut into bands comes to the same bits.
    """
    dark = lightness <= _L_SLOPE * _BREAK
    y = np.where(dark, lightness / _L_SLOPE, ((lightness + 16) / 116) ** 3)
    bent_y = np.where(dark, _SLOPE * y + _OFFSET, (lightness + 16) / 116)
    x = _unbend(bent_y + a / 500) * _WHITE[0]
    z = _unbend(bent_y - b / 200) * _WHITE[2]
    rgb = np.empty((*lightness.shape, 3), np.float32)
    for channel, (of_x, of_y, of_z) in enumerate(_RGB_OF_XYZ):
        # A matrix product would round differently at the edges of its blocks.
        rgb[..., channel] = srgb_of_linear(x * of_x + y * of_y + z * of_z)
    return rgb


def _luminance(linear: Floats) -> Floats:
    red, green, blue = _XYZ_OF_RGB[1]
    mixed: Floats = linear[..., 0] * red + linear[..., 1] * green + linear[..., 2] * blue
    return mixed


@cache
def _linear_of_levels(levels: int) -> Floats:
    return linear_of_srgb(np.arange(levels, dtype=np.float32) / np.float32(levels - 1))


@cache
def _lightness_of_grey(levels: int) -> Floats:
    linear = _linear_of_levels(levels)
    return _lightness(_luminance(np.stack([linear] * 3, axis=-1)))


def _lightness(y: Floats) -> Floats:
    return np.where(y > _BREAK, 116 * np.cbrt(y) - 16, _L_SLOPE * y).astype(np.float32)


def _bend(ratio: Floats) -> Floats:
    return np.where(ratio > _BREAK, np.cbrt(ratio), _SLOPE * ratio + _OFFSET).astype(np.float32)


def _unbend(bent: NDArray[np.floating]) -> Floats:
    return np.where(bent <= _F_BREAK, (bent - _OFFSET) / _SLOPE, bent**3).astype(np.float32)
