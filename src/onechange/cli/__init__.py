"""The command line.

Imports from every other wing.
"""
