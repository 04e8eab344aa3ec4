"""What computes: the stages of a run, and the methods that they use. Never imports the service."""
