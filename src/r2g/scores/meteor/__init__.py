"""METEOR as an evaluate module."""
