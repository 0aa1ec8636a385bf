"""The sources of studies, one file each."""
