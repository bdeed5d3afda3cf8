"""Many runs, and what may be concluded: studies, intervals, comparisons, claims.

Imports from classifier and below.
"""
