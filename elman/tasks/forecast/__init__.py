"""The next values of time series."""
