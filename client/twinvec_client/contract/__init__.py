"""What both sides import, so that they cannot drift: messages, limits, reasons, lanes. It must know neither side."""
