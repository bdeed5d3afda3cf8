"""One run: the frozen prefix, the published schedule, the loop, its result.

Imports from data and below.
"""
