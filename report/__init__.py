"""What was verified and measured, as a page, a text for a pull request, and a file for a CI system."""
