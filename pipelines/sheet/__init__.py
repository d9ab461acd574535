"""The contact sheet: clips of each tier and just outside, drawn on one picture. `contact_sheet` is the way in."""
