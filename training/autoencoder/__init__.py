"""Training of autoencoders: its losses and its discriminator."""
