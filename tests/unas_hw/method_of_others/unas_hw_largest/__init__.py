"""The largest of random networks within the budget."""
