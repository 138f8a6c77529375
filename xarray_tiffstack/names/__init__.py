"""What file names say: patterns, naming conventions, and inference where neither is known.

Nothing here does any IO but reading the table of conventions, and nothing knows what a TIFF is.
"""
