"""Inputs that mean harm, or had bad luck on their way."""
