"""Stand-ins for what no real part does on demand: a Toxiproxy whose answers get lost, a client that does not read."""
