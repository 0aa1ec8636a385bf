"""Annotation files from the originals of MIMIC-CXR-JPG and OpenI, for those who hold them."""
