"""What one trained, in use: saved, loaded, asked, read position by position.

Imports from training and below.
"""
