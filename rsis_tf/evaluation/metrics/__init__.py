"""One file for each family of metrics, and `table`, the table of those that are reported."""
