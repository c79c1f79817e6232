"""The estimators, all under one contract."""
