"""What a run costs: planned beforehand, and measured.

Imports from evidence and below.
"""
