"""What the service answers, a module a subject. A route reads its arguments, asks one function, and gives its data."""
