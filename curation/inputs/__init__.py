"""What is put in: folders, lists and names, local or in an object store; staging brings one to a private folder."""
