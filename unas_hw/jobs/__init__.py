"""What the commands do, each a function: from names and numbers to files and results."""
