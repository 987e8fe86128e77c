"""Pretraining of foundation models on data without a graph, one file per family."""
