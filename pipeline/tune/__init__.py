"""The choice of a network for a device and a budget: candidates, their latency, and the search for the best of them."""
