"""The language models, one file each."""
