"""What both engines fulfil, and compiled code on disk. Neither engine is imported here."""
