"""Layers over all nodes of large graphs in bounded memory."""
