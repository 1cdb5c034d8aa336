"""Grasp diffusion: one denoiser, one scheduler, one trainer; variants by configuration."""
