"""How the suite itself runs: in which order, and which worker gets what."""
