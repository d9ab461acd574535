"""What people say of clips: decisions and tags. `words` is what may be said, `changing` writes it: start there."""
