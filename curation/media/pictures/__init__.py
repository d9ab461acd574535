"""From a decoded frame to the picture that counts: fields, light, colour, size. `develop` is the way in."""
