"""What commands do with what was typed: a module each, but for `training`, which declares three. `render` prints."""
