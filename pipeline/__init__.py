"""The verbs, where the rooms meet: options and a reporter in, values out."""
