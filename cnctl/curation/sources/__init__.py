"""The kinds of inputs: each is a file that finds rows in a fixed order and reads one of them."""
