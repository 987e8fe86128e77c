"""The strongest linear answer: the conditional mean of what is hidden, under a Gaussian."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fimp.models.registry import Backbone, Hyperparameters, ModelSpec, register

#: Relative residual at which the solution of the linear system is good enough, and most steps towards it.
_TOLERANCE, _MOST_STEPS = 1e-5, 1000


class Gaussian(Backbone):
    r"""A stationary Gaussian process of all regions, in the basis of its principal components.

    .. math::
        \mathrm{cov}(x_{i,s}, x_{j,t}) = \sum_k v_{ik} v_{jk}\, \lambda_k\, \rho_k(|s - t|)
        + \nu \bar\lambda\, [i = j, s = t]

    with eigenvectors and eigenvalues of the regions' covariance, shrunk towards its diagonal, and of every component
    an autocorrelation of its own, shrunk towards the common one and tapered. Components share one autocorrelation in
    the separable case. The conditional mean of hidden values given all visible ones solves a linear system of as many
    unknowns as there are visible values; it is solved by conjugate gradients, since a product with the covariance takes
    two small matrix products and Fourier transforms along time.

    Parameters
    ----------
    regions, window
        R and the time points of a window.
    """

    basis: Tensor
    lags: Tensor
    noise: Tensor

    def __init__(self, regions: int, window: int) -> None:
        super().__init__()
        self.hops = 0
        self.register_buffer("basis", torch.eye(regions, dtype=torch.float64))
        self.register_buffer("lags", torch.zeros(regions, window, dtype=torch.float64))
        self.register_buffer("noise", torch.ones((), dtype=torch.float64))

    def fit(
        self,
        signals: Sequence[Tensor],
        shrinkage: float = 0.3,
        own: float = 0.5,
        taper: float = 20.0,
        noise: float = 0.1,
    ) -> Gaussian:
        """Measure recordings.

        Parameters
        ----------
        signals
            Scaled and centred, ``[R, any length]`` each; the amplitude of a recording does not matter, so that a
            restless subject has no more say than others.
        shrinkage
            Weight of the diagonal in the covariance of regions.
        own
            Weight of a component's own autocorrelation against the common one.
        taper
            Time points over which autocorrelations are trusted (the deviation of a Gaussian bell).
        noise
            Variance of what is in no covariance, as a share of the mean eigenvalue.

        Returns
        -------
        Gaussian
            Itself.
        """
        window = self.lags.size(1)
        parts = [signal.double() / signal.double().square().mean().sqrt().clamp(min=1e-12) for signal in signals]
        total = sum(part.size(1) for part in parts)
        covariance = torch.stack([part @ part.T for part in parts]).sum(0) / total
        diagonal = torch.diag(covariance.diagonal())
        eigenvalues, basis = torch.linalg.eigh((1.0 - shrinkage) * covariance + shrinkage * diagonal)
        sums = torch.zeros_like(self.lags)
        for part in parts:
            length = part.size(1)
            power = torch.fft.rfft(basis.T @ part, 2 * length, dim=1).abs().square()
            found = torch.fft.irfft(power, dim=1)[:, : min(window, length)]
            sums[:, : found.size(1)] += found
        common = sums.sum(0) / sums[:, 0].sum().clamp(min=1e-12)
        each = sums / sums[:, :1].clamp(min=1e-12)
        bell = torch.exp(-0.5 * (torch.arange(window, dtype=torch.float64) / taper).square())
        # Zero where a component says nothing at all.
        eigenvalues = torch.where(sums[:, 0] > 1e-9 * sums[:, 0].max(), eigenvalues.clamp(min=0.0), 0.0)
        self.basis = basis
        self.lags = eigenvalues[:, None] * bell * ((1.0 - own) * common + own * each)
        self.noise = noise * eigenvalues.mean().clamp(min=1e-12)
        return self

    def forward(self, values: Tensor, visible: Tensor) -> Tensor:
        """Expected values of a window given what is visible of it.

        Parameters
        ----------
        values
            ``[R, window]``; what stands where they are hidden is not looked at.
        visible
            ``[R, window]``.

        Returns
        -------
        Tensor
            ``[R, window]``, in the precision of the values.
        """
        mask = visible.double()
        target = torch.where(visible, values, 0.0).double()
        spectrum = self._spectrum()
        solution, residual = torch.zeros_like(target), target
        direction, size = target, target.square().sum()
        enough = _TOLERANCE**2 * size
        for _ in range(_MOST_STEPS):
            if size <= enough:
                break
            image = mask * self._covary(direction, spectrum) + self.noise * direction
            step = size / (direction * image).sum()
            solution = solution + step * direction
            residual = residual - step * image
            before, size = size, residual.square().sum()
            direction = residual + (size / before) * direction
        return self._covary(solution, spectrum).to(values.dtype)

    def _spectrum(self) -> Tensor:
        """Eigenvalues of the circulant matrices that hold the components' Toeplitz matrices."""
        zero = torch.zeros_like(self.lags[:, :1])
        return torch.fft.rfft(torch.cat([self.lags, zero, self.lags[:, 1:].flip(1)], 1), dim=1).real

    def _covary(self, x: Tensor, spectrum: Tensor) -> Tensor:
        """Product of the covariance, without noise, and ``[R, window]``."""
        length = x.size(1)
        components = torch.fft.rfft(self.basis.T @ x, 2 * length, dim=1)
        return self.basis @ torch.fft.irfft(spectrum * components, 2 * length, dim=1)[:, :length]


def _build(h: Hyperparameters, regions: int, window: int) -> Backbone:
    return Gaussian(regions, window)


register(
    ModelSpec(
        "gaussian",
        "expected signal under a Gaussian fitted on training recordings; the best linear answer",
        "rule",
        _build,
    )
)
