"""Texts that inference servers read: model configurations, application files, how to start them."""
