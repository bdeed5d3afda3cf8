"""What this book knows, asked of a person's own messages and of their own model: the doctor.

Imports from show and below.
"""
