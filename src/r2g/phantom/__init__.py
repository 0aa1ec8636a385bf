"""Procedurally drawn chest films with reports and exactly known labels."""
