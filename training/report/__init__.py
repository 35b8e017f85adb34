"""The report of a tower: measured, drawn and written as one page. It must not know where the tower is stored."""
