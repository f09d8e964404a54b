"""The tests: a folder for each part of the product, `support` for what several of them use, `e2e` for whole runs."""
