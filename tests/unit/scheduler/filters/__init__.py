"""Tests of the filters, one host at a time."""
