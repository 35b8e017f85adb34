"""One machine's installation: embedded servers, workers and their supervisor. A library; no deployment imports it."""
