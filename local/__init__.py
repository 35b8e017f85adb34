"""One machine's installation: embedded servers, workers and their supervisor. A library; no deployment imports it.

It must not know the command's answers, nor what the workers do.
"""
