"""What the networks cost: blocks, autoencoders, sampling."""
