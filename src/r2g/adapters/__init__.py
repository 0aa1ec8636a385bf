"""The adapters, one file each."""
