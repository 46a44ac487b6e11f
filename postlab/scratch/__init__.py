"""The mathematics of post-training from scratch, in torch alone, equal to the libraries' own."""
