"""minivmm: a complete small VMM, and the ground that the labs stand on."""

__version__ = "0.1.0"
