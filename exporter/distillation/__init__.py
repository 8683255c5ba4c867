"""Distillation: a network that costs less learns to answer as the whole one does."""
