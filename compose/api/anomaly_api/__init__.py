"""A blockchain anomaly-detection API: the sample service that the resilience harness is shown on."""

__version__ = "1.0.0"
