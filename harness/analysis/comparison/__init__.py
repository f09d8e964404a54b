"""What a run did harm by, and what the harms of several runs say: worse, not worse, or not to be told.

`harness.compare` and benchmarks come in. Imports record and statistics, never the judge: a figure is of requests alone.
"""
