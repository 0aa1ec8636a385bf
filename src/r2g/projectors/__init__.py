"""The projectors, one file each."""
