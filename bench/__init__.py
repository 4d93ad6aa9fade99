"""Benchmarks: every figure in the documents comes from a script here. ``python -m bench`` runs them all."""
