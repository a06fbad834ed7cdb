"""How each library is called, each in its own best way; NumPy is in plain.py."""
