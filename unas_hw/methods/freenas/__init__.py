"""FreeNAS: a network from zero-cost scores, the best within the budgets; nothing is trained."""
