"""Layer `models`: a user's model in, data sets, weights, training and evaluation. Uses torch, never tvm."""
