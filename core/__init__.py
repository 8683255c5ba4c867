"""The types, errors and files that every other room uses; needs the standard library, NumPy and msgspec alone."""
