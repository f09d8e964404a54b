"""Nothing stays broken: journal, keeper, healing and locks, with runs in miniature that die at chosen moments."""
