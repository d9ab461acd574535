"""What a person may set: recipe, model file and filters, read from TOML; the ones that ship lie beside them."""
