"""The predictor: one process that serves one package by KServe's protocols."""
