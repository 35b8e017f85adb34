"""What the lanes do: each task one line, its work a plain function beside it."""
