"""Rewrites of the network into fewer layers that compute the same."""
