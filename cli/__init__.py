"""The command line: arguments, progress bars, exit codes; installed as ``unas_hw_cli``."""
