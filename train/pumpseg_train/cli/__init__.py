"""The commands for data sets, training and evaluation."""
