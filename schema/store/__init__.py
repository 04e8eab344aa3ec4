"""The store: one pair of files a noun, `noun.py` and `noun.sql`.

Functions take a Connection; callers own the transaction.
"""
