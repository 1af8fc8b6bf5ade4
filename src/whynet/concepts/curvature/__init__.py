"""Curvature: second derivatives of the loss as operators and as spectra, as `whynet.curvature`.

Names are loaded when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from whynet.core.lazy_names import lazy_names

if TYPE_CHECKING:
    from whynet.concepts.curvature.operators import fisher as fisher
    from whynet.concepts.curvature.operators import gauss_newton as gauss_newton
    from whynet.concepts.curvature.operators import gradient_covariance as gradient_covariance
    from whynet.concepts.curvature.operators import hessian as hessian
    from whynet.concepts.curvature.operators import jacobian as jacobian
    from whynet.concepts.curvature.saddle import SaddleIndex as SaddleIndex
    from whynet.concepts.curvature.saddle import saddle_index as saddle_index
    from whynet.concepts.curvature.spectra import CurvatureSpectrum as CurvatureSpectrum
    from whynet.concepts.curvature.spectra import adaptive_sharpness as adaptive_sharpness
    from whynet.concepts.curvature.spectra import density as density
    from whynet.concepts.curvature.spectra import spectrum as spectrum
    from whynet.concepts.curvature.traces import Moments as Moments
    from whynet.concepts.curvature.traces import log_determinant as log_determinant
    from whynet.concepts.curvature.traces import moments as moments
    from whynet.concepts.curvature.traces import noise_scale as noise_scale
    from whynet.concepts.curvature.traces import trace as trace

_HOMES = {
    "hessian": "whynet.concepts.curvature.operators",
    "gauss_newton": "whynet.concepts.curvature.operators",
    "fisher": "whynet.concepts.curvature.operators",
    "jacobian": "whynet.concepts.curvature.operators",
    "gradient_covariance": "whynet.concepts.curvature.operators",
    "saddle_index": "whynet.concepts.curvature.saddle",
    "SaddleIndex": "whynet.concepts.curvature.saddle",
    "spectrum": "whynet.concepts.curvature.spectra",
    "CurvatureSpectrum": "whynet.concepts.curvature.spectra",
    "density": "whynet.concepts.curvature.spectra",
    "adaptive_sharpness": "whynet.concepts.curvature.spectra",
    "trace": "whynet.concepts.curvature.traces",
    "moments": "whynet.concepts.curvature.traces",
    "Moments": "whynet.concepts.curvature.traces",
    "log_determinant": "whynet.concepts.curvature.traces",
    "noise_scale": "whynet.concepts.curvature.traces",
}

__all__ = [*_HOMES]

__getattr__, __dir__ = lazy_names("whynet.curvature", _HOMES)
