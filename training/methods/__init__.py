"""What is learnt: a method makes inputs of a micro-batch and a loss of them. `base` is the protocol."""
