"""Commands about clips that are alike."""
