"""What is exported and imported, format by format: rows and records in, bytes out, and back."""
