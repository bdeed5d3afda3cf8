"""How the pocket family was made.

Imports from cost and below.
"""
