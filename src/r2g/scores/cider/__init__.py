"""CIDEr as an evaluate module."""
