"""ROUGE-L as an evaluate module."""
