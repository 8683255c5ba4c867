"""Reports of what was verified and measured: a page, a text for a pull request, and a file for a CI system."""
