"""The sample API: its endpoints, its known defects, and what each fault of a dependency does to it."""
