"""DDColor written anew from its published layout: a photo's lightness in, its two colour channels out.

The parameter names and shapes are those of the official checkpoints, so these load unchanged. Training, losses and the
single-scale colour decoder are left out: the published checkpoints use none of them.
"""

from gpuwatch_runner.ddcolor.network import REWRITES, VARIANTS, DDColor, Rewrite, Variant

__all__ = ["REWRITES", "VARIANTS", "DDColor", "Rewrite", "Variant"]
