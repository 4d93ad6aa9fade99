"""nova_fast: a whole compute cloud in one package."""

__version__ = "0.1.0"
