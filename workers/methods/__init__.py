"""What is computed: tensors or a forward callable in, values out. Knows no database, no Celery, no HTTP."""
