"""The 14 CheXpert observations by compact rules of our own: medspacy and negspacy need spaCy, too heavy here."""
