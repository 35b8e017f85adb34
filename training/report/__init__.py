"""Plots of a training. They draw what they are given."""
