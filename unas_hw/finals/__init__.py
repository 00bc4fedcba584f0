"""Which networks a search trains for real at its end, and which of them is best."""
