"""Logits in, judgement out: measures, limits and reports."""
