"""Real servers for tests: started without the keeper, put behind a proxy of a test's own, on free ports."""
