"""The store: one pair of files per noun, `noun.py` and `noun.sql`. Functions take a Connection; callers own the transaction."""
