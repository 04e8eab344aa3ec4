"""What users meet: the HTTP API, the Python client, the command line, and the stack that runs it all here."""
