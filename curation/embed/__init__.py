"""What makes vectors of clips: from their sample frames, or from their captions."""
