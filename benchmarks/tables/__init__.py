"""Evidence for the tables from published measurements; the data's folder is an argument or ``UNAS_HW_DATA``."""
