"""What a reader sees: figures, panels, widgets.

Imports from pretraining and below.
"""
