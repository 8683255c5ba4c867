"""The machine: its environment, memory, host and installation."""
