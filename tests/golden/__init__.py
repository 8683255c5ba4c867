"""Outputs of the authors' own code, and the recipe of their inputs."""
