"""Tests of the weighers."""
