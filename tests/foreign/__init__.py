"""Systems that are not the sample API, with none of the harness's code: each has a weakness that `WEAK=1` plants.

One folder a system: its program, a Locust file, and what starts it. system.py brings one up behind a Toxiproxy, as
people do, and runs the harness on it.
"""
