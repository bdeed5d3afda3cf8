"""What can be changed: the experiment and its fields, the rows of the table.

Imports from gpt and below.
"""
