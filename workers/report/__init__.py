"""What a person reads: one call, the main tables, and the page with charts."""
