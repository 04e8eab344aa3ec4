"""Dictionary formats: one file each, functions from a user's files to the canonical form.

`python -m workers.formats PATH --subject NAME --out DIR` is what the command line calls; see __main__.
"""
