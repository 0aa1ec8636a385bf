"""The vision encoders, one file each."""
