"""Finds out what a deployment lacks before terraform does, and tells the mend."""
