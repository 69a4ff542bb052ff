"""What is kept: the record and its schema, the store and its chain, the index, and by what records are compared."""
