"""Gradients: what goes backward through every norm."""
