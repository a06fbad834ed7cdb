"""Whose array it is, and where its memory lies: taken from the caller's library, and given back."""
