"""The sound of clips: which stream, its place in the time of the pictures, and its way into the clip's file."""
