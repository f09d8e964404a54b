"""What scripts and tests do piece by piece: faults that are on while their own code runs, and a steady load beside it.

`harness.api` comes in. Uses the session and the fault runner of `conductor`, so that a fault is proven and undone as in
a run; nothing else of `conductor` imports it, and it never imports pytest.
"""
