"""MONAS: an LSTM controller, children that are trained for real, a Pareto front."""
