"""What is shown, a module each: its addresses, what it asks the client, and the template that says it."""
