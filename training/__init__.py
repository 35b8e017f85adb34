"""The leaf that learns: pictures become glyphs, glyphs become a Siamese tower, a tower makes vectors.

It knows nothing of brokers, databases or commands.
"""
