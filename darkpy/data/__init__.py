"""Pictures and their labels: reading, augmenting and delivering them in batches."""
