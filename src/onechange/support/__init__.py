"""What every wing stands on: the cache, whole files, errors of one line, progress.

Imports from no other wing.
"""
