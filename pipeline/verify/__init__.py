"""Verification of exported folders against their reference."""
