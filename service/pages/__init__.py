"""Pages for people: HTML rendered here, over the same store functions as the API."""
