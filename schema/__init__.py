"""What the data is: records, errors, settings, stages and the store. Knows no torch, no Celery, no FastAPI."""
