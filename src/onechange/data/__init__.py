"""The task: messages, their split, their tokens; baselines without a network.

Imports from experiment and below.
"""
