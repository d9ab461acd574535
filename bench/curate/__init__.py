"""What curation costs beside a bare decode and encode, and beside older tools."""
