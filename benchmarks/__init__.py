"""Benchmarks: figures with their spread, and how to get them again. ``make bench`` runs them all."""
