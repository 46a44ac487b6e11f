"""The embedded world: six task families of known truth, and a base that read about them."""
