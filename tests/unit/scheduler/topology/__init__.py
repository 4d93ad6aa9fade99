"""Tests of NUMA cells and PCI devices."""
