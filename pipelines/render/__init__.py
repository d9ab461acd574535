"""How answers of commands are shown: to a person, and as JSON. Every `print` of a result is here."""
