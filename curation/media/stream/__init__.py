"""What packets say before a picture is decoded: the timeline, rates, clean starts, damage. `timeline` is first."""
