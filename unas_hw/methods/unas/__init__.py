"""UNAS, and the methods of the field that are configurations of it."""
