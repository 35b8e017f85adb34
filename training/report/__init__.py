"""Plots of a training. They draw what they are given; they must not know where the tower is stored."""
