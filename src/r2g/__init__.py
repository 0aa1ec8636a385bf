"""Ablations of radiology report generation with frozen language models."""

__version__ = "0.1.0"
